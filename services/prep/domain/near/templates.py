"""Which words of a prompt are its own, and which belong to a text that many prompts share: a schema, an instruction.

A run of `RUN` words that stands in `MANY` different prompts or more is shared, and its words are nobody's own.
"""

import numpy as np
import numpy.typing as npt

from services.prep.domain.near.hashing import U64, Ints, Tokens, runs

RUN, MANY = 5, 5
PER_RUN = 4
"""Counters per run: two different runs seldom share one."""
SMALLEST, LARGEST = 16, 28
"""Counters are 2 to the power of these, a byte each."""
Bools = npt.NDArray[np.bool_]


class SharedRuns:
    """The runs that many documents share: `add` all documents, then `check` all, `settle`, and ask what is their `own`.

    The first pass counts in a table of fixed size, where two runs may share a counter; the second counts those above exactly.
    """

    def __init__(self, words: int) -> None:
        """`words`: about how many there are in all documents."""
        bits = min(LARGEST, max(SMALLEST, int(np.ceil(np.log2(PER_RUN * words + 1)))))
        self._counts = np.zeros(2**bits, np.uint8)
        self._mask = np.uint64(2**bits - 1)
        self._exact = [(np.empty(0, np.uint64), np.empty(0, np.int64))]
        self._entries = 0

    def add(self, documents: Tokens) -> None:
        """Counts the runs of further documents up to `MANY`, each run once a document."""
        values, starts = runs(documents, RUN)
        slots, counts = _documents(values & self._mask, documents.documents()[starts])
        at = slots.astype(np.int64)
        self._counts[at] = np.minimum(self._counts[at] + counts, MANY)

    def check(self, documents: Tokens) -> None:
        """Counts exactly those runs of the same documents whose counters are full."""
        values, starts = runs(documents, RUN)
        full = self._full(values)
        self._exact.append(_documents(values[full], documents.documents()[starts[full]]))
        self._entries += len(self._exact[-1][0])
        if self._entries > 2 * len(self._exact[0][0]) + 1_000_000:
            self._sum()

    def _sum(self) -> None:
        values = np.concatenate([part[0] for part in self._exact])
        counts = np.concatenate([part[1] for part in self._exact])
        order = np.argsort(values, kind="stable")
        first = _firsts(values[order])
        sums = np.add.reduceat(counts[order], first) if len(first) else np.empty(0, np.int64)
        self._exact = [(values[order][first], sums)]
        self._entries = len(first)

    def _full(self, values: U64) -> Bools:
        return self._counts[(values & self._mask).astype(np.int64)] >= MANY

    def settle(self) -> None:
        """Ends the counting."""
        self._sum()
        values, counts = self._exact[0]
        self._exact = [(values[counts >= MANY], counts[counts >= MANY])]

    def own(self, documents: Tokens) -> Bools:
        """Of each word whether it is its document's own."""
        values, starts = runs(documents, RUN)
        full = np.flatnonzero(self._full(values))
        shared = starts[full[_among(values[full], self._exact[0][0])]]
        own = np.ones(len(documents.hashes), np.bool_)
        for place in range(RUN):
            own[shared + place] = False
        return own


def _documents(values: U64, owners: Ints) -> tuple[U64, Ints]:
    """The distinct values, and in how many documents each stands."""
    order = np.lexsort((owners, values))
    values, owners = values[order], owners[order]
    once = np.ones(len(values), np.bool_)
    once[1:] = (values[1:] != values[:-1]) | (owners[1:] != owners[:-1])
    values = values[once]
    first = _firsts(values)
    return values[first], np.diff(np.append(first, len(values)))


def _firsts(ordered: U64) -> Ints:
    new = np.ones(len(ordered), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    return np.flatnonzero(new)


def _among(values: U64, ordered: U64) -> Bools:
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[at] == values
