"""The names of a dataset's parts, and an accepted record as it lies in the store. Decides nothing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Split = Literal["train", "validation", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "validation", "held_out")
DROPS = "drops"
"""The file of what was left out, beside the splits'."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted record's newest revision; `record` and `tags` are JSON texts."""

    record_id: str
    revision: int
    format: str
    record: str
    tags: str
    subject: str | None
    accepted_at: datetime | None = None
