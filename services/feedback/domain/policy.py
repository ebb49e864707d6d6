"""Whether an example is learnt, held for review or left out: the project's `learn`. Pure.

Against poisoning by a few: caps a user and a day, agreement of several, nearly equal answers in a burst, and answers that
others contest. Users are whom the application names; where it names nobody, all are one and only the day's cap holds.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

from contracts.learning import Learning
from services.feedback.domain.examples import Example

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OWN = ("thumbs", "scores", "approved", "teacher")
"""Sources whose answers are the model's own: that it says the same again and again is no burst."""
Status = Literal["released", "held", "left_out"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What else was said: counts of other examples, and of people who hold an opinion on the question's answers."""

    by_user: int = 0
    """Examples of this source and user within DAY, this one not counted; 0 where nobody is named."""
    of_source: int = 0
    """Examples of this source within DAY, this one not counted."""
    alike: int = 0
    """Examples of this source within DAY on other requests whose answer is nearly the same."""
    agreeing: int = 1
    """People who say of the answer what the example says, whoever gave this one among them."""
    weight: float = 1.0
    """Their weight, at least 1: a person who says it of an answer to n questions counts 1/n on each."""
    contesting: float = 0.0
    """Weight of those who say the contrary: that the good answer is bad, or the bad one good."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an example, and why where it is not learnt. `until`: when it is judged again by itself."""

    status: Status
    reason: str | None = None
    detail: str | None = None
    until: datetime | None = None


RELEASED = Verdict("released")
LEFT_OUT = Verdict("left_out")


def judged(example: Example, learning: Learning, seen: Seen, now: datetime) -> Verdict:
    """What becomes of an example that is wanted."""
    verdict = _judged(example, learning, seen, now)
    # Nobody said anything of a teacher's answer, so there is nothing to review.
    return LEFT_OUT if example.source == "teacher" and verdict.reason in ("per_user", "per_day") else verdict


def wanted(example: Example, learning: Learning, methods: tuple[str, ...]) -> bool:
    """Whether the project learns from such examples at all: by source, length, and the share by the example's identity."""
    source = learning.source(example.source)
    if not source.min_chars <= len(example.text) <= source.max_chars:
        return False
    drawn = int.from_bytes(sha256(example.example_id.encode()).digest()[:8]) / 2**64
    return drawn < learning.share(example.source, methods)


def _judged(example: Example, learning: Learning, seen: Seen, now: datetime) -> Verdict:
    source = learning.source(example.source)
    if now < (until := example.said_at + learning.wait):
        return Verdict("held", "wait", f"it is judged when others had {_span(learning.wait)} to speak", until)
    if learning.contested == "hold" and seen.contesting and seen.contesting >= seen.weight:
        weights = f"weight {seen.contesting:.3g} against {seen.weight:.3g}"
        return _held("contested", f"others say otherwise of the same question, with {weights}")
    if seen.agreeing < source.agree:
        return _held("agree", f"{seen.agreeing} of the {source.agree} users that {example.source} asks for say so")
    if seen.alike >= learning.alike and example.source not in OWN:
        return _held("alike", f"{seen.alike} nearly equal answers to other requests came within a day")
    if seen.by_user >= source.per_user:
        return _held("per_user", f"the user has given {seen.by_user} of {example.source} within a day")
    if seen.of_source >= source.per_day:
        return _held("per_day", f"{seen.of_source} of {example.source} came within a day")
    return RELEASED


def _held(reason: str, detail: str) -> Verdict:
    return Verdict("held", reason, detail)


def _span(wait: timedelta) -> str:
    return f"{wait.total_seconds() / 3600:g} h" if wait >= HOUR else f"{wait.total_seconds():g} s"
