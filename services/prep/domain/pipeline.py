"""The steps of a freeze, one after the other: records as columns in, what stays and what is left out and why."""

import numpy as np

from contracts.project import Prep
from services.prep.domain import duplicates, lengths, near_duplicates
from services.prep.domain.frame import Frame, Outcome, Step
from services.prep.domain.near_duplicates import Sign


def freeze(frame: Frame, prep: Prep, sign: Sign) -> Outcome:
    """What of the records stays, the same whatever order they came in."""
    reason = np.full(len(frame), -1, np.int16)
    because_of = np.full(len(frame), -1, np.int64)
    reasons: list[str] = []
    for step in steps(prep, sign):
        for dropped in step(frame, reason < 0):
            reason[dropped.rows] = len(reasons)
            because_of[dropped.rows] = dropped.because_of
            reasons.append(dropped.reason)
    return Outcome(tuple(reasons), reason, because_of)


def steps(prep: Prep, sign: Sign) -> list[Step]:
    """The project's steps in their order."""
    found: list[Step] = [lengths.step(prep.min_chars, prep.max_chars)]
    if prep.deduplicate == "exact":
        found.append(duplicates.step)
    return [*found, near_duplicates.step(sign)]
