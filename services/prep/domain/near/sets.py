"""Sets of words, and how much two of them have in common, for many pairs at once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.prep.domain.near.hashing import U64, Ints, Tokens, mixed

U32 = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
NUMERATOR, DENOMINATOR = 4, 5
"""The threshold as a fraction: floating point would decide pairs that lie exactly on it by its rounding."""
AT_ONCE = 4_000_000
"""Words that are compared at once."""


@dataclass(frozen=True, slots=True)
class Sets:
    """Sets one after the other: `items` (n,) sorted within each, and where each begins: `offsets` (sets + 1,)."""

    items: U32
    offsets: Ints

    def sizes(self) -> Ints:
        """How many items each has."""
        return np.diff(self.offsets)

    def chosen(self, which: Ints) -> "Sets":
        """Some of the sets."""
        sizes = self.sizes()[which]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[which] - offsets[:-1], sizes)
        return Sets(self.items[places], offsets)

    def names(self) -> U64:
        """A number for each set, the same for equal ones."""
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed(self.items.astype(np.uint64) + np.uint64(1)))])
        return mixed(sums[self.offsets[1:]] - sums[self.offsets[:-1]] + self.sizes().astype(np.uint64))


def of_tokens(found: Tokens, chosen: Bools | None = None) -> Sets:
    """The set of words of each document, of those that are chosen."""
    documents, hashes = found.documents(), found.hashes
    if chosen is not None:
        documents, hashes = documents[chosen], hashes[chosen]
    keys = np.unique(documents.astype(np.uint64) << np.uint64(32) | hashes >> np.uint64(32))
    offsets = np.searchsorted(keys >> np.uint64(32), np.arange(len(found.offsets), dtype=np.uint64))
    return Sets(keys.astype(np.uint32), offsets.astype(np.int64))


def joined(parts: list[Sets]) -> Sets:
    """The sets of all parts, in their order."""
    sizes = np.concatenate([np.zeros(1, np.int64), *(part.sizes() for part in parts)])
    return Sets(np.concatenate([np.empty(0, np.uint32), *(part.items for part in parts)]), np.cumsum(sizes))


def near(sets: Sets, a: Ints, b: Ints) -> Bools:
    """Of each pair of sets (a[i], b[i]) whether the share of the items of either that are in both reaches the threshold."""
    sizes = sets.sizes()
    result = np.zeros(len(a), np.bool_)
    both_sizes = sizes[a] + sizes[b]
    possible = np.flatnonzero(
        DENOMINATOR * np.minimum(sizes[a], sizes[b]) >= NUMERATOR * np.maximum(sizes[a], sizes[b])
    )
    ends = np.cumsum(both_sizes[possible])
    begin = 0
    while begin < len(possible):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + AT_ONCE, "right")))
        part = possible[begin:end]
        common = _common(sets, a[part], b[part])
        result[part] = DENOMINATOR * common >= NUMERATOR * (both_sizes[part] - common)
        begin = end
    return result


def _common(sets: Sets, a: Ints, b: Ints) -> Ints:
    """How many items each pair has in common."""
    sides = np.concatenate([a, b])
    sizes = sets.sizes()[sides]
    pair = np.repeat(np.concatenate([np.arange(len(a))] * 2), sizes)
    places = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(sets.offsets[sides], sizes)
    keys = np.sort(pair.astype(np.uint64) << np.uint64(32) | sets.items[places])
    twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
    return np.bincount(twice.astype(np.int64), minlength=len(a))
