"""The stages a version goes through and what their history says. Knows no table and no event class."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Stage = Literal["candidate", "production", "archived", "rejected"]
Cause = Literal["registered", "gate", "evaluation", "promote", "rollback", "superseded"]


@dataclass(frozen=True, slots=True)
class Transition:
    """One entry of a model's history, never changed: who moved a version, from where, to where, when and why.

    `before` is None for a version's first entry; `event` is the id of the event that caused it, None for a person's.
    """

    version: int
    before: Stage | None
    after: Stage
    cause: Cause
    by: str
    reason: str
    at: datetime
    event: str | None = None


def production_stack(history: Iterable[Transition]) -> list[int]:
    """Versions that a rollback can return to, oldest first; the last one is in production.

    A promotion puts its version on top, a rollback takes the top one off: after 1, 2, 3 two rollbacks end at 1.
    """
    stack: list[int] = []
    for entry in history:
        if entry.after != "production":
            continue
        if entry.cause == "rollback" and entry.version in stack:
            del stack[len(stack) - stack[::-1].index(entry.version) :]
        else:
            stack.append(entry.version)
    return stack


def previous(history: Iterable[Transition]) -> int | None:
    """The version that a rollback returns to; None where there is none."""
    stack = production_stack(history)
    return stack[-2] if len(stack) > 1 else None
