"""A promotion of a model: which version was wanted in production, what serving made of it, where a rollback returns to."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

DeploymentStatus = Literal["pending", "deployed", "failed", "removed"]
PromotionCause = Literal["gate", "promote", "rollback"]


@dataclass(frozen=True, slots=True)
class Promotion:
    """One promotion. `number` counts those of the model, rollbacks too: 1, 2, ...; `version` 0 is the base.

    `below` is the promotion that a rollback returns to, None where that is the base. So promotions are a stack kept as a
    linked list: a promotion goes on top of the one in force, a rollback takes over the `below` of the one it repeats.
    """

    number: int
    version: int
    below: int | None
    cause: PromotionCause
    by: str
    detail: str
    at: datetime
    status: DeploymentStatus = "pending"
    status_detail: str = ""
    prompt_version: int | None = None
    """Which of the project's prompts it is served under."""
