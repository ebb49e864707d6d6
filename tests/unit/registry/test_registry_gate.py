import pytest

from contracts.gate import parse
from contracts.types import Metric, PairedTest
from services.lm.scoring.holm import holm
from services.registry.domain.gate import Finding, Score, judge, needs_champion


def metric(value: float, low: float, high: float, n: int = 91) -> Metric:
    return Metric(value=value, low=low, high=high, n=n)


def paired(p: float, n: int = 91, differing: int | None = None, sd: float = 15.0) -> PairedTest:
    return PairedTest(
        p=p, margin=0, sd=sd, n=n, differing=n if differing is None else differing, flips=99_999, exact=False
    )


def found(
    *rules: str,
    differences: dict[str, Metric] | None = None,
    metrics: dict[str, Metric] | None = None,
    tests: dict[str, PairedTest] | None = None,
    alpha: float = 0.03,
) -> list[Finding]:
    score = Score(0, metrics or {}, {}, differences or {}, tests or {})
    return list(judge([parse(rule) for rule in rules], score, alpha))


@pytest.mark.parametrize(
    ("p", "interval", "outcome"),
    [
        (0.001, (4, 1.5, 6.5), "holds"),
        (0.03, (2, -0.1, 4), "holds"),
        (0.031, (2, -0.2, 4), "inconclusive"),
        (0.5, (0, -2, 2), "inconclusive"),
        (0.999, (-4, -6, -1), "worse"),
    ],
)
def test_a_rule_on_the_champion_is_decided_by_its_test(p: float, interval: tuple[float, float, float], outcome: str):
    [finding] = found("chrf > champion", differences={"chrf": metric(*interval)}, tests={"chrf > champion": paired(p)})
    assert (finding.outcome, finding.p, finding.alpha) == (outcome, p, 0.03)
    assert finding.words.startswith(f"chrf > champion: {outcome}: ")


def test_a_lower_loss_is_shown_from_the_other_side():
    better, worse = metric(-0.4, -0.6, -0.2), metric(0.4, 0.2, 0.6)
    assert found("loss < champion", differences={"loss": better})[0].outcome == "holds"
    assert found("loss < champion", differences={"loss": worse})[0].outcome == "worse"
    assert found("loss > champion", differences={"loss": better})[0].outcome == "worse"


def test_a_margin_moves_what_has_to_be_shown():
    level = {"chrf": metric(-0.1, -0.6, 0.4)}
    assert found("chrf > champion - 1", differences=level)[0].outcome == "holds"
    assert found("chrf > champion", differences=level)[0].outcome == "inconclusive"
    assert found("chrf > champion + 1", differences=level)[0].outcome == "worse"


def test_an_event_of_before_tests_is_judged_by_its_bound_and_at_the_first_comparison_alone():
    beyond = {"chrf": metric(4, 0.1, 8)}
    assert found("chrf > champion", differences=beyond)[0].outcome == "holds"
    assert found("chrf > champion", differences=beyond, alpha=0.02)[0].outcome == "inconclusive"
    assert found("chrf > champion", differences={"chrf": metric(4, 0, 8)})[0].outcome == "inconclusive"


def test_of_several_rules_holm_keeps_the_level():
    rules = [parse(text) for text in ("a > champion", "b > champion", "c > champion")]
    assert list(holm(dict(zip(rules, (0.01, 0.02, 0.04), strict=True))).values()) == pytest.approx([0.03, 0.04, 0.04])
    assert list(holm(dict(zip(rules, (0.03, 0.001, 0.9), strict=True))).values()) == pytest.approx([0.003, 0.06, 0.9])
    differences = {name: metric(3, -0.1, 6) for name in ("chrf", "bleu")}
    tests = {"chrf > champion": paired(0.02), "bleu > champion": paired(0.025)}
    chrf, bleu = found("chrf > champion", "bleu > champion", differences=differences, tests=tests)
    assert (chrf.outcome, chrf.adjusted) == ("inconclusive", 0.04)
    assert (bleu.outcome, bleu.adjusted) == ("inconclusive", 0.04), "it may not hold where the surer one does not"
    assert "(0.04 by Holm)" in chrf.words
    [alone] = found("chrf > champion", differences=differences, tests=tests)
    assert alone.outcome == "holds"


def test_equal_answers_hold_what_may_be_equal_and_are_never_worse():
    same, tests = {"chrf": metric(0, 0, 0)}, {f"chrf {op} champion": paired(1, differing=0, sd=0) for op in (">", ">=")}
    more, least = found("chrf > champion", "chrf >= champion", differences=same, tests=tests)
    assert (more.outcome, least.outcome) == ("inconclusive", "holds")
    assert more.words.endswith("no answer differs")
    assert found("chrf >= champion", differences=same)[0].outcome == "holds", "as an event of before tells it"


def test_what_was_not_measured_never_holds():
    assert found("bleu > 1")[0].words == "bleu > 1: inconclusive: bleu was not measured"
    assert "not measured on the same examples" in found("chrf > champion")[0].words


def test_an_open_case_says_how_many_examples_would_settle_it():
    open_ = {"chrf": metric(1.5, -1.6, 4.6)}
    [finding] = found("chrf > champion", differences=open_, tests={"chrf > champion": paired(0.17)})
    assert finding.settled_by == 1002  # ((1.8808 + 1.2816) * 15 / 1.5)^2 + 1.8808^2 / 2
    assert finding.words == (
        "chrf > champion: inconclusive: +1.5 [-1.6, 4.6] against the champion on 91 examples, p 0.17 above 0.03; "
        "some 1,002 examples like these would settle it"
    )
    few = found(
        "chrf > champion", differences={"chrf": metric(9, 8, 10, n=3)}, tests={"chrf > champion": paired(0.125, 3)}
    )
    assert few[0].words.endswith("; 3 examples cannot show it whatever they say, 6 at least can")


@pytest.mark.parametrize(
    ("rule", "interval", "outcome"),
    [
        ("chrf > 40", (46, 41, 51), "holds"),
        ("chrf > 40", (46, 40, 51), "inconclusive"),
        ("chrf >= 40", (46, 40, 51), "holds"),
        ("chrf > 40", (35, 30, 39), "worse"),
        ("loss < 1.2", (1.1, 1.0, 1.19), "holds"),
        ("loss < 1.2", (1.1, 1.0, 1.2), "inconclusive"),
        ("loss <= 1.2", (1.1, 1.0, 1.2), "holds"),
        ("loss<1.2", (1.4, 1.3, 1.5), "worse"),
        ("chrf >= 0", (0, 0, 0), "holds"),
    ],
)
def test_a_rule_on_a_number_is_decided_by_the_interval(rule: str, interval: tuple[float, float, float], outcome: str):
    [finding] = found(rule, metrics={str(parse(rule).metric): metric(*interval)})
    assert (finding.outcome, finding.p) == (outcome, None)
    assert (finding.settled_by is not None) == (outcome == "inconclusive")


def test_only_rules_on_the_champion_need_one():
    assert needs_champion([parse("chrf > 1"), parse("chrf > champion - 1")])
    assert not needs_champion([parse("chrf > 1")])
