"""Drops rows whose normalised content another row has; of equal ones the smallest record_id stays."""

from collections.abc import Iterable

import numpy as np

from services.prep.domain.frame import Bools, Dropped, Frame, grouped


def step(frame: Frame, left: Bools) -> Iterable[Dropped]:
    """The first row of each content by record_id stays, the others have the reason `duplicate`."""
    rows = np.flatnonzero(left)
    first, group = grouped(frame.columns["content_0"][rows], frame.columns["content_1"][rows])
    same = rows[first][group]
    repeated = same != rows
    yield Dropped("duplicate", rows[repeated], same[repeated])
