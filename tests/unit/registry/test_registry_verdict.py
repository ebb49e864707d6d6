from contracts.project import ProjectSpec
from contracts.types import Metric
from services.registry.domain.verdict import Score, decide


def figures(chrf: float) -> dict[str, Metric]:
    return {"chrf": Metric(value=chrf, low=chrf - 1, high=chrf + 1, n=9)}


def spec(**sections: object) -> ProjectSpec:
    return ProjectSpec.model_validate({"project": "p", "base": "b", **sections})


SCORE = Score(champion=0, metrics=figures(40), champion_metrics=figures(18))


def test_a_better_candidate_is_promoted():
    assert decide(spec(), SCORE, 0).decision == "promote"


def test_a_worse_candidate_is_rejected_with_the_figures():
    verdict = decide(spec(), Score(0, figures(17), figures(18)), 0)
    assert (verdict.decision, verdict.failed) == ("reject", ("chrf > champion: 17 is not > 18",))


def test_approval_of_one_person_leaves_it_waiting():
    verdict = decide(spec(gate={"approval": "one person"}), SCORE, 0)
    assert verdict.decision == "wait"
    assert "waiting for approval" in verdict.detail


def test_a_gate_without_rules_promotes_by_hand_alone():
    assert decide(spec(gate={"require": []}), SCORE, 0).decision == "wait"


def test_a_score_against_another_champion_does_not_decide():
    verdict = decide(spec(), SCORE, 2)
    assert (verdict.decision, verdict.failed) == ("measure", ())
    assert verdict.detail == "measured against version 0, but version 2 serves now"
    assert decide(spec(gate={"approval": "one person"}), SCORE, 2).decision == "measure"


def test_rules_on_numbers_need_no_champion():
    assert decide(spec(gate={"require": ["chrf > 30"]}), SCORE, 2).decision == "promote"


def test_compare_with_the_base_does_not_ask_for_the_champion():
    assert decide(spec(evaluate={"compare": "base"}), SCORE, 2).decision == "promote"
