from contracts.project import ProjectSpec
from contracts.types import Metric
from services.registry.domain.verdict import Score, Standing, decide


def figures(chrf: float) -> dict[str, Metric]:
    return {"chrf": Metric(value=chrf, low=chrf - 1, high=chrf + 1, n=9)}


def spec(**sections: object) -> ProjectSpec:
    return ProjectSpec.model_validate({"project": "p", "base": "b", **sections})


SCORE = Score(dataset="d1", champion=0, metrics=figures(40), champion_metrics=figures(18))


def test_a_better_candidate_is_promoted():
    assert decide(spec(), SCORE, Standing()).decision == "promote"


def test_a_worse_candidate_is_rejected_with_the_figures():
    verdict = decide(spec(), Score("d1", 0, figures(17), figures(18)), Standing())
    assert (verdict.decision, verdict.failed) == ("reject", ("chrf > champion: 17 is not > 18",))


def test_approval_of_one_person_leaves_it_waiting():
    verdict = decide(spec(gate={"approval": "one person"}), SCORE, Standing())
    assert verdict.decision == "wait"
    assert "waiting for approval" in verdict.detail


def test_a_gate_without_rules_promotes_by_hand_alone():
    assert decide(spec(gate={"require": []}), SCORE, Standing()).decision == "wait"


def test_a_new_champion_stands_in_with_its_figures_on_the_same_dataset():
    assert decide(spec(), SCORE, Standing(2, "d1", figures(39))).decision == "promote"
    assert decide(spec(), SCORE, Standing(2, "d1", figures(41))).decision == "reject"


def test_a_new_champion_without_figures_there_refuses_rules_on_it():
    verdict = decide(spec(), SCORE, Standing(2, "d0", figures(1)))
    assert verdict.decision == "reject"
    assert verdict.failed[0].startswith("champion changed: measured against version 0, but version 2")


def test_rules_on_numbers_need_no_champion():
    assert decide(spec(gate={"require": ["chrf > 30"]}), SCORE, Standing(2, "d0", None)).decision == "promote"


def test_compare_with_the_base_does_not_ask_for_the_champion():
    assert decide(spec(evaluate={"compare": "base"}), SCORE, Standing(2, "d0", figures(90))).decision == "promote"
