"""Drops rows that are empty, too short or too long by the project's rules."""

from collections.abc import Iterable

import numpy as np

from services.prep.domain.frame import Bools, Dropped, Frame, Step


def step(min_chars: int, max_chars: int) -> Step:
    """The reasons `empty`, `too_short`, `too_long`. White space around a completion does not count towards `min_chars`."""

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        said, characters = frame.columns["said"], frame.columns["characters"]
        empty = said == 0
        short = ~empty & (said < min_chars)
        long = ~empty & ~short & (characters > max_chars)
        for reason, rows in {"empty": empty, "too_short": short, "too_long": long}.items():
            dropped = np.flatnonzero(left & rows)
            yield Dropped(reason, dropped, np.full(len(dropped), -1))

    return found
