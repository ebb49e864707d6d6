"""Drops rows whose prompt nearly repeats a prompt of a higher split, so that no split is judged on what another learnt.

Near means that the sets of words have a Jaccard similarity of at least 0.8. Pairs are found exactly, by the prefix filter of
Bayardo, Ma and Srikant, "Scaling up all pairs similarity search" (WWW 2007): two such sets share one of their rarest words.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from services.prep.domain.rows import SPLITS, Drop, Row, Split

NUMERATOR, DENOMINATOR = 4, 5
"""The threshold as a fraction: floating point would decide pairs that lie exactly on it by its rounding."""

HIGHER: dict[Split, tuple[Split, ...]] = {
    "held_out": (),
    "validation": ("held_out",),
    "train": ("held_out", "validation"),
}


def are_near(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether the Jaccard similarity, the share of the words of either that are in both, reaches the threshold."""
    both = len(a & b)
    return both > 0 and DENOMINATOR * both >= NUMERATOR * (len(a) + len(b) - both)


class Index:
    """Prompts that can be asked for one that is near."""

    def __init__(self, frequency: Mapping[str, int]) -> None:
        self._frequency = frequency
        self._sets: dict[frozenset[str], str] = {}
        self._by_word: dict[str, list[frozenset[str]]] = {}

    def add(self, words: frozenset[str], record_id: str) -> None:
        """Takes a prompt in under its record's name; the smallest of equal ones stays."""
        known = self._sets.get(words)
        self._sets[words] = record_id if known is None else min(known, record_id)
        if known is None:
            for word in self._rarest(words):
                self._by_word.setdefault(word, []).append(words)

    def near(self, words: frozenset[str]) -> str | None:
        """The record of a prompt near to `words`, or None."""
        if words in self._sets:
            return self._sets[words]
        for word in self._rarest(words):
            for other in self._by_word.get(word, ()):
                if _sizes_allow(len(words), len(other)) and are_near(words, other):
                    return self._sets[other]
        return None

    def _rarest(self, words: frozenset[str]) -> list[str]:
        """The words of which every near set shares at least one: the rarest |words| - ceil(0.8 |words|) + 1."""
        count = len(words) - -(-NUMERATOR * len(words) // DENOMINATOR) + 1
        return sorted(words, key=lambda word: (self._frequency[word], word))[:count]


def _sizes_allow(a: int, b: int) -> bool:
    return DENOMINATOR * min(a, b) >= NUMERATOR * max(a, b)


def partition(rows: list[Row]) -> tuple[list[Row], list[Drop]]:
    """The rows without near versions on a higher split, and the others with `near_held_out` or `near_validation`."""
    frequency = Counter(word for row in rows for word in set(row.words))
    indexes: dict[Split, Index] = {split: Index(frequency) for split in SPLITS}
    drops: dict[str, Drop] = {}
    for split in reversed(SPLITS):
        for row in _of(rows, split):
            words = frozenset(row.words)
            drop = _dropped(row, words, indexes)
            if drop is not None:
                drops[row.record_id] = drop
            elif split != "train":
                indexes[split].add(words, row.record_id)
    return [row for row in rows if row.record_id not in drops], list(drops.values())


def _of(rows: Iterable[Row], split: Split) -> Iterable[Row]:
    """A split's rows in an order of their own, so that the one a drop names does not hang on the order of arrival."""
    return sorted((row for row in rows if row.split == split), key=lambda row: row.record_id)


def _dropped(row: Row, words: frozenset[str], indexes: Mapping[Split, Index]) -> Drop | None:
    for higher in HIGHER[row.split]:
        found = indexes[higher].near(words)
        if found is not None:
            return Drop(row.record_id, f"near_{higher}", found)
    return None
