"""Drops rows that match a regular expression of the project file, which RE2 runs: in time linear in the text."""

from collections.abc import Iterable

import numpy as np

from services.prep.domain.arrow import compute
from services.prep.domain.frame import Bools, Dropped, Frame, Step


def step(name: str, pattern: str) -> Step:
    """The reason `pattern_NAME`: prompt or completion has a match."""

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        matches = np.zeros(len(frame), np.bool_)
        for rows, texts in frame.texts("text"):
            matches[rows] = np.asarray(compute.match_substring_regex(texts, pattern))
        dropped = np.flatnonzero(matches & left)
        yield Dropped(f"pattern_{name}", dropped, np.full(len(dropped), -1))

    return found
