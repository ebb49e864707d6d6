"""What answers cost and how long they took, by who gave them; what own versions save against the teacher. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NOT_COMPARED = "nobody measured the teacher's answers on the held-out records, so that equal quality is not shown"


@dataclass(frozen=True, slots=True)
class Answered:
    """What one answerer of a project did: `seconds` and `first_tokens` of its good answers, ascending."""

    by: str
    teacher: bool
    answers: int
    """Of them `failed` ended as errors."""
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    """Money for all of them; None where none had a price."""
    currency: str | None
    seconds: Sequence[float]
    first_tokens: Sequence[float]


def percentile(ascending: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile (Hyndman and Fan's type 1); None of nothing."""
    if not ascending:
        return None
    return ascending[max(0, math.ceil(percent / 100 * len(ascending)) - 1)]


def report(project: str, found: Sequence[Answered]) -> dict[str, Any]:
    """Each answerer's figures, and what the project's own versions saved; money in the teacher's currency, times in ms."""
    return {"project": project, "answered": [_figures(each) for each in found], "saved": _saved(found)}


def _figures(each: Answered) -> dict[str, Any]:
    return {
        "by": each.by,
        "teacher": each.teacher,
        "answers": each.answers,
        "failed": each.failed,
        "prompt_tokens": each.prompt_tokens,
        "completion_tokens": each.completion_tokens,
        "cost": each.cost,
        "cost_per_answer": None if each.cost is None else each.cost / each.answers,
        "currency": each.currency,
        "p50_ms": _ms(percentile(each.seconds, 50)),
        "p95_ms": _ms(percentile(each.seconds, 95)),
        "first_token_p50_ms": _ms(percentile(each.first_tokens, 50)),
        "first_token_p95_ms": _ms(percentile(each.first_tokens, 95)),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)


def _saved(found: Sequence[Answered]) -> dict[str, Any] | None:
    """Own good answers at what the teacher's cost each in the mean; times as the teacher's less the busiest own version's.

    None where one of them answered nothing well.
    """
    teacher = next((each for each in found if each.teacher and each.seconds), None)
    own = [each for each in found if not each.teacher and not each.by.endswith("@base") and each.seconds]
    if teacher is None or not own:
        return None
    answers, first = sum(each.answers - each.failed for each in own), own[0]
    each_costs = None if teacher.cost is None else teacher.cost / teacher.answers

    def less(percent: float) -> float | None:
        theirs, ours = percentile(teacher.seconds, percent), percentile(first.seconds, percent)
        return None if theirs is None or ours is None else _ms(theirs - ours)

    return {
        "by": first.by,
        "against": teacher.by,
        "answers": answers,
        "money": None if each_costs is None else answers * each_costs,
        "currency": teacher.currency,
        "p50_ms": less(50),
        "p95_ms": less(95),
        "quality": NOT_COMPARED,
    }
