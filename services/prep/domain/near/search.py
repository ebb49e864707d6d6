"""Which documents nearly repeat which: nodes of equal words are one, the others are found by buckets and compared exactly."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from services.prep.domain.near.buckets import Bools, Pairs, Signatures, candidates
from services.prep.domain.near.hashing import U64, Ints
from services.prep.domain.near.sets import Sets, near

FEW = 512
"""Up to so many documents all pairs are compared, which finds every one."""


@dataclass(frozen=True, slots=True)
class Documents:
    """What is compared: document i has the words `sets[full[i]]` and of its own `sets[own[i]]`, whose numbers are in `names`.

    Signatures are those of the own words; None where all pairs are compared.
    """

    sets: Sets
    full: Ints
    own: Ints
    names: tuple[U64, U64]
    signatures: Signatures | None

    def __len__(self) -> int:
        return len(self.own)

    def are_near(self, a: Ints, b: Ints) -> Bools:
        """Of each pair whether all words and the own words of both are near."""
        result = near(self.sets, self.full[a], self.full[b])
        rest = np.flatnonzero(result & ((self.own[a] != self.full[a]) | (self.own[b] != self.full[b])))
        result[rest] = near(self.sets, self.own[a[rest]], self.own[b[rest]])
        return result


def first_near(documents: Documents, low: Bools, high: Bools) -> Ints:
    """For each document of `low` one of `high` that was found near to it, the same each time; -1 where there is none."""
    found = np.full(len(documents), -1, np.int64)
    for a, b in _rounds(documents, low, high, found):
        real = documents.are_near(a, b)
        a, b = a[real], b[real]
        order = np.lexsort((b, a))
        new, first = np.unique(a[order], return_index=True)
        found[new] = b[order][first]
    return found


def _rounds(documents: Documents, low: Bools, high: Bools, found: Ints) -> Iterator[Pairs]:
    """Pairs to compare; a document that `found` has something for is done with."""
    if documents.signatures is None:
        a, b = np.flatnonzero(low), np.flatnonzero(high)
        yield np.repeat(a, len(b)), np.tile(b, len(a))
        return
    yield from candidates(documents.signatures, low, high, found)


def thinned(documents: Documents, chosen: Bools) -> Ints:
    """For each of the chosen documents an earlier one that stays and is near to it; -1 where it stays itself."""
    edges = list(_edges(documents, chosen))
    a = np.concatenate([np.empty(0, np.int64), *(pair[0] for pair in edges)])
    b = np.concatenate([np.empty(0, np.int64), *(pair[1] for pair in edges)])
    later, earlier = np.maximum(a, b), np.minimum(a, b)
    order = np.lexsort((earlier, later))
    found = np.full(len(documents), -1, np.int64)
    for i, j in zip(later[order].tolist(), earlier[order].tolist(), strict=True):
        if found[j] < 0 and found[i] < 0:
            found[i] = j
    return found


def _edges(documents: Documents, chosen: Bools) -> Iterator[Pairs]:
    nothing = np.full(len(documents), -1, np.int64)
    for a, b in _rounds(documents, chosen, chosen, nothing):
        forward = a > b
        a, b = a[forward], b[forward]
        real = documents.are_near(a, b)
        yield a[real], b[real]
