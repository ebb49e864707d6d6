"""The stages a version goes through, and one entry of a model's history. Pure data."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Stage = Literal["candidate", "production", "archived", "rejected"]
Cause = Literal[
    "registered",
    "gate",
    "evaluation",
    "promote",
    "rollback",
    "superseded",
    "reject",
    "retired",
    "reopened",
    "deployed",
    "deployment_failed",
    "deployment_removed",
]
"""Why an entry was made. The last three tell what serving did: they change no stage."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One entry of a model's history, never changed: who moved a version, from where, to where, when and why.

    `before` is None for a version's first entry; `event` is the id of the event that caused it, None for a person's.
    Version 0 is the base: it has no stage but production.
    """

    version: int
    before: Stage | None
    after: Stage
    cause: Cause
    by: str
    reason: str
    at: datetime
    event: str | None = None
