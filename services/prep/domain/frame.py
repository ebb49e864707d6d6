"""The records of a freeze as columns, and what the steps made of them. Decides nothing."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.kinds import KINDS
from services.prep.domain.arrow import Column
from services.prep.domain.rows import SPLITS

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.uint64]
Texts = Iterator[tuple[Ints, Column]]
"""Row numbers and a text for each, in batches; every row once, in any order."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Records by record_id: row i of each column is the i-th. `split` holds places in SPLITS; for the others see measure.py.

    Texts are not held: `texts(column)` reads them.
    """

    record_ids: Column
    split: npt.NDArray[np.int8]
    columns: dict[str, npt.NDArray[Any]]
    texts: Callable[[str], Texts]

    def __len__(self) -> int:
        return len(self.split)

    def of(self, *splits: str) -> Bools:
        """Of each row whether it is of one of these splits."""
        return np.isin(self.split, [SPLITS.index(split) for split in splits])


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows that a step leaves out, why, and for each the row it repeats, -1 for none."""

    reason: str
    rows: Ints
    because_of: Ints


CountTokens = Callable[[list[str]], list[int]]
"""Texts -> the number of tokens of each."""
EXAMPLES = 3
Step = Callable[[Frame, Bools], Iterable[Dropped]]
"""What of the rows that are left (True) is left out."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of each row the reason it is left out for, a place in `reasons`, or -1 where it stays, and the row it repeats or -1."""

    reasons: tuple[str, ...]
    reason: npt.NDArray[np.int16]
    because_of: Ints
    emptied_by: tuple[str, Ints] | None = None
    """The step that took the last of train, and some of the rows that it took."""

    @property
    def kept(self) -> Bools:
        """The rows that stay."""
        return self.reason < 0

    def counts(self, frame: Frame) -> dict[str, int]:
        """Rows a split."""
        found = np.bincount(frame.split[self.kept], minlength=len(SPLITS))
        return {split: int(n) for split, n in zip(SPLITS, found, strict=True)}

    def kinds(self, frame: Frame) -> dict[str, dict[str, int]]:
        """Rows by split and kind; of each split those kinds that it has."""
        place = frame.split[self.kept].astype(np.int64) * len(KINDS) + frame.columns["kind"][self.kept]
        found = np.bincount(place, minlength=len(SPLITS) * len(KINDS)).reshape(len(SPLITS), len(KINDS))
        return {
            split: {kind: int(n) for kind, n in sorted(zip(KINDS, line, strict=True)) if n}
            for split, line in zip(SPLITS, found, strict=True)
        }

    def drops_by_reason(self) -> dict[str, int]:
        """Drops a reason."""
        found = np.bincount(self.reason[~self.kept], minlength=len(self.reasons))
        return {reason: int(n) for reason, n in sorted(zip(self.reasons, found, strict=True)) if n}


def grouped(*keys: Any) -> tuple[Ints, Ints]:
    """Rows with equal keys: the first row of each group, and the group of each row."""
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), np.bool_)
    new[:1] = True
    for key in keys:
        ordered = key[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(new) - 1
    return order[new], group
