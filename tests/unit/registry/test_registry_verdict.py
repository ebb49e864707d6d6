from dataclasses import replace

from contracts.evaluation import Regressions
from contracts.project import ProjectSpec
from services.registry.domain.gate import Score
from services.registry.domain.spending import look
from services.registry.domain.verdict import Verdict, compares, decide
from tests.unit.registry.builders import figures, paired

FIRST = look(None, None)


def spec(**sections: object) -> ProjectSpec:
    return ProjectSpec.model_validate({"project": "p", "base": "b", **sections})


def score(chrf: float, champion: float) -> Score:
    gain = chrf - champion
    return Score(0, figures(chrf), figures(champion), figures(gain, 0.4), {"chrf > champion": paired(gain)})


def judged(champion: int = 0, chrf: float = 40, **sections: object) -> Verdict:
    return decide(spec(**sections), score(chrf, 18), champion, FIRST)


def test_a_better_candidate_is_promoted_with_its_figures():
    verdict = judged()
    assert (verdict.decision, verdict.failed) == ("promote", ())
    assert verdict.detail == (
        "gate: chrf > champion: holds: +22 [21.6, 22.4] against the champion on 91 examples, p 1e-05 within 0.03; "
        "comparison 1 on these held-out rows: decided at 0.03 of 0.05, 39% of which is left for further ones"
    )
    assert [finding.outcome for finding in verdict.findings] == ["holds"]


def test_a_worse_candidate_is_rejected_with_the_figures():
    verdict = judged(chrf=17)
    assert verdict.decision == "reject"
    assert verdict.failed[0].startswith("chrf > champion: worse: -1 [-1.4, -0.6]")


def test_the_projects_alpha_is_the_level():
    [finding] = judged(gate={"alpha": 1e-5}).findings
    assert (finding.outcome, round(finding.alpha or 0, 8)) == ("inconclusive", 6.08e-06)


def lost(cases: int, **sections: object) -> Verdict:
    found = Regressions(cases=9, kept=9 - cases, fixed=0, regressed=cases, wrong=0, records=("r1", "r2")[:cases])
    return decide(spec(**sections), replace(score(40, 18), regressions=found), 0, FIRST)


def test_regression_cases_that_were_lost_reject_a_candidate_that_is_better_on_the_whole():
    verdict = lost(1, gate={"regressions": 0})
    assert (verdict.decision, len(verdict.failed)) == ("reject", 1)
    assert verdict.failed[0] == (
        "regressions <= 0: worse: 1 of 9 held-out questions that people corrected are right by the base and not by it "
        "(8 kept, 0 fixed, 0 right by neither; right is exact_match >= 100): r1"
    )
    held = lost(1, gate={"regressions": 1})
    assert (held.decision, held.findings[-1].outcome) == ("promote", "holds")
    assert lost(0, gate={"regressions": 0}).decision == "promote"
    assert lost(2).decision == "promote", "a gate that does not ask lets it pass"
    assert len(lost(2).findings) == 1


def test_regression_cases_that_nobody_looked_at_do_not_promote():
    verdict = judged(gate={"regressions": 0})
    assert (verdict.decision, verdict.findings[-1].outcome) == ("reject", "inconclusive")
    assert "`noria evaluate` measures again" in verdict.failed[0]


def test_regression_cases_are_judged_against_the_champion_of_now():
    assert judged(2, gate={"require": ["chrf > 1"], "regressions": 0}).decision == "measure"
    assert judged(2, gate={"require": [], "regressions": 0}).decision == "measure"


def test_regression_cases_alone_reject_and_promote_nobody_and_spend_nothing():
    assert lost(1, gate={"require": [], "regressions": 0}).decision == "reject"
    waits = lost(0, gate={"require": [], "regressions": 0})
    assert waits.decision == "wait"
    assert "by hand alone" in waits.detail
    assert "0 of 9 held-out" in waits.detail
    assert not compares(spec(gate={"require": [], "regressions": 0}))


def test_approval_of_one_person_leaves_it_waiting():
    verdict = judged(gate={"approval": "one person"})
    assert verdict.decision == "wait"
    assert verdict.detail.startswith(
        "waiting for approval: the gate is passed, one person has to promote it; gate: chrf"
    )


def test_a_gate_without_rules_promotes_by_hand_alone():
    assert judged(gate={"require": []}).decision == "wait"


def test_a_score_against_another_champion_does_not_decide():
    verdict = judged(2)
    assert (verdict.decision, verdict.failed, verdict.findings) == ("measure", (), ())
    assert verdict.detail == "measured against version 0, but version 2 serves now"
    assert judged(2, gate={"approval": "one person"}).decision == "measure"


def test_rules_on_numbers_need_no_champion_and_spend_nothing():
    verdict = judged(2, gate={"require": ["chrf > 30"]})
    assert (verdict.decision, verdict.detail) == ("promote", "gate: chrf > 30: holds: 40 [38, 42] on 91 examples")


def test_compare_with_the_base_does_not_ask_for_the_champion():
    assert judged(2, evaluate={"compare": "base"}).decision == "promote"
