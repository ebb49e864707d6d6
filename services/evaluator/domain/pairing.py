"""Which evaluations two versions are compared by: one that measured both where there is one. Knows no file."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from services.evaluator.domain.evaluation import Evaluation


@dataclass(frozen=True, slots=True)
class Subject:
    """A version as the caller names it: its number, 0 for the base, and the run that its evaluations are of."""

    version: int
    run_id: str | None


class Place(NamedTuple):
    """Where a version was measured: an evaluation that is done, and as what."""

    evaluation: Evaluation
    role: str


def places(evaluations: Iterable[Evaluation], a: Subject, b: Subject) -> tuple[Place | None, Place | None]:
    """The newest evaluation that measured both, else each one's newest; None for a version that none measured."""
    done = sorted((e for e in evaluations if e.outcome is not None), key=lambda e: e.created_at, reverse=True)
    for each in done:
        one, other = role(each, a), role(each, b)
        if one and other:
            return Place(each, one), Place(each, other)
    return _newest(done, a), _newest(done, b)


def role(evaluation: Evaluation, subject: Subject) -> str | None:
    """As what a version was measured in an evaluation."""
    if subject.version == 0:
        return "base"
    if subject.run_id is not None and evaluation.run_id == subject.run_id:
        return "candidate"
    return "champion" if evaluation.champion.version == subject.version else None


def _newest(done: Iterable[Evaluation], subject: Subject) -> Place | None:
    return next((Place(each, found) for each in done if (found := role(each, subject))), None)
