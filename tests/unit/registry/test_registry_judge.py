"""A judge under its floor cannot gate: neither promote, nor show a candidate to be worse."""

from typing import Any

import pytest

from contracts.gate import parse
from contracts.judge import JudgeReport
from contracts.types import Metric
from services.registry.domain.gate import Finding, Score, judge
from services.registry.domain.spending import look
from services.registry.domain.verdict import decide
from services.registry.domain.version import score
from tests.unit.registry.builders import rows, scored
from tests.unit.registry.test_registry_gate import metric, paired


def report(low: float | None) -> JudgeReport:
    kappa = None if low is None else Metric(value=0.9, low=low, high=1, n=30)
    return JudgeReport(model="m", host="h", floor=0.4, asked=91, judged=91, kappa=kappa)


def found(*rules: str, kappa: float | None, asked: bool = True, p: float = 0.001) -> list[Finding]:
    rate = metric(80, 70, 90)
    differences = {"judge": metric(30, 20, 40), "chrf": metric(3, 1, 5)}
    tests = {"judge > champion": paired(p), "chrf > champion": paired(0.02)}
    return list(
        judge(
            [parse(rule) for rule in rules],
            Score(0, {"judge": rate}, {}, differences, tests, judge=report(kappa) if asked else None),
            0.03,
        )
    )


@pytest.mark.parametrize("rule", ["judge > champion", "judge > 55", "judge < 50"])
@pytest.mark.parametrize(("kappa", "asked"), [(0.39, True), (None, True), (0.9, False)])
def test_a_judge_that_does_not_count_settles_nothing(rule: str, kappa: float | None, asked: bool) -> None:
    [finding] = found(rule, kappa=kappa, asked=asked)
    assert (finding.outcome, finding.p, finding.value) == ("inconclusive", None, None)
    assert any(word in finding.words for word in ("does not reach 0.4", "is not known", "no judge was asked"))


def test_one_that_does_gates_as_any_other_metric() -> None:
    assert [each.outcome for each in found("judge > champion", "judge > 55", "judge < 50", kappa=0.4)] == [
        "holds",
        "holds",
        "worse",
    ]
    assert found("judge > champion", kappa=0.4, p=0.5)[0].outcome == "inconclusive"


def test_a_test_that_does_not_count_takes_no_part_in_holms() -> None:
    barred = found("judge > champion", "chrf > champion", kappa=0.1)
    assert [each.outcome for each in barred] == ["inconclusive", "holds"]
    assert barred[1].adjusted == 0.02
    counted = found("judge > champion", "chrf > champion", kappa=0.4, p=0.02)
    assert counted[1].adjusted == 0.04


def test_the_verdict_is_of_the_event() -> None:
    event: Any = scored("run-1", "a" * 64, 46)
    changed = {
        "gate": {"require": ["judge > champion"]},
        "evaluate": {"judge": {"url": "https://a.example", "model": "m", "rubric": "x"}},
    }
    spec = type(event.spec).model_validate(event.spec.model_dump() | changed)
    figures = {"differences": {"judge": metric(30, 20, 40)}, "tests": {"judge > champion": paired(0.001)}}
    for low, decision in ((0.39, "reject"), (0.41, "promote")):
        judged = event.model_copy(update={**figures, "judge": report(low)})
        assert decide(spec, score(judged), 0, look(None, rows("d"))).decision == decision
