"""What an own version saves against the teacher, from figures of answers."""

from typing import Any

from services.cli.verbs.report import lines
from services.serving.domain.savings import Answered, percentile, report

FAST = [n / 100 for n in range(1, 101)]


def answered(by: str, **changes: Any) -> Answered:
    counts = {"answers": 100, "failed": 0, "prompt_tokens": 5, "completion_tokens": 6}
    money: dict[str, Any] = {"teacher": False, "cost": None, "currency": None}
    values: dict[str, Any] = {"by": by, **counts, **money, "seconds": FAST, "first_tokens": [0.5], **changes}
    return Answered(**values)


TEACHER = answered(
    "large-1 (api.example.com)", teacher=True, answers=10, cost=0.02, currency="EUR", seconds=[s * 3 for s in FAST]
)


def test_a_percentile_is_one_of_the_values() -> None:
    assert [percentile(FAST, p) for p in (50, 95, 100)] == [0.5, 0.95, 1.0]
    assert percentile([7.0], 95) == 7.0
    assert percentile([], 50) is None


def test_own_answers_count_at_what_the_teachers_cost_each() -> None:
    made = report("shop", [answered("shop@2", answers=300, failed=20), TEACHER, answered("shop@1", answers=50)])
    assert made["answered"][1]["cost_per_answer"] == 0.002
    assert (made["answered"][0]["p50_ms"], made["answered"][0]["p95_ms"]) == (500.0, 950.0)
    saved = made["saved"]
    assert (saved["by"], saved["answers"]) == ("shop@2", 330)
    assert round(saved["money"], 6) == 0.66
    assert (saved["currency"], saved["p50_ms"], saved["p95_ms"]) == ("EUR", 1000.0, 1900.0)
    assert list(lines(saved)) == [
        "own versions gave 330 answers, for which large-1 (api.example.com) would have taken 0.66 EUR",
        "half of the answers of shop@2 were there 1000 ms earlier",
        "95% of the answers of shop@2 were there 1900 ms earlier",
        "quality: nobody measured the teacher's answers on the held-out records, so that equal quality is not shown",
    ]


def test_nothing_is_saved_where_only_one_of_them_answers() -> None:
    assert report("shop", [TEACHER, answered("shop@base")])["saved"] is None
    assert report("shop", [answered("shop@1")])["saved"] is None
    assert list(lines(None)) == []


def test_a_slower_version_is_said_to_be_and_without_a_price_no_money_is() -> None:
    free = answered("free", teacher=True, seconds=[0.1])
    saved = report("shop", [free, answered("shop@1")])["saved"]
    assert saved["money"] is None
    assert next(iter(lines(saved))) == "half of the answers of shop@1 were there 400 ms later"
