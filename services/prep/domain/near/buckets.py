"""Candidates for nearness: documents whose MinHash signatures agree in a whole band (Broder 1997; Indyk and Motwani 1998).

Two sets of a Jaccard similarity of 0.8 agree in one of `BANDS` bands of `ROWS` values each with a probability of
1 - (1 - 0.8 ** ROWS) ** BANDS = 0.994. A bucket of any size costs time linear in it: it is ordered by the values of the next
band too, so that those most alike stand together, and each document looks at some others before and behind it, at fewer the more
documents there are.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from services.prep.domain.near.hashing import U64, Ints, mixed

BANDS, ROWS = 13, 5
HASHES = BANDS * ROWS
LOOKS = 3_200_000
"""At so many others the documents look in one band on either side together; each at 4 to 64."""
ALIKE = 0.6
"""Least share of equal values in two signatures that are compared exactly; 3 standard deviations below 0.8."""
AT_ONCE = 200_000
Values = npt.NDArray[np.uint32]
"""(documents, HASHES): MinHash signatures."""
Bools = npt.NDArray[np.bool_]
Pairs = tuple[Ints, Ints]


class Signatures:
    """A number for each band, and of each value the lowest byte (b-bit minwise hashing, Li and König 2010)."""

    def __init__(self, documents: int) -> None:
        self.bands = np.zeros((BANDS, documents), np.uint64)
        self.bytes = np.zeros((documents, HASHES), np.uint8)

    def put(self, places: Ints, values: Values) -> None:
        """Takes in the signatures of these documents."""
        self.bytes[places] = values.astype(np.uint8)
        for band in range(BANDS):
            self.bands[band, places] = _hashed(values[:, band * ROWS : (band + 1) * ROWS])

    def alike(self, a: Ints, b: Ints) -> Bools:
        """Of each pair whether enough values are equal."""
        found = np.empty(len(a), np.bool_)
        for begin in range(0, len(a), AT_ONCE):
            some = slice(begin, begin + AT_ONCE)
            equal = self.bytes.take(a[some], 0) == self.bytes.take(b[some], 0)
            found[some] = np.count_nonzero(equal, axis=1) >= ALIKE * HASHES
        return found


def candidates(signatures: Signatures, low: Bools, high: Bools, found: Ints) -> Iterator[Pairs]:
    """Pairs of a document of `low` and another one of `high` in one bucket with signatures alike, those most alike first.

    Looks no further for documents that `found`, which the caller fills meanwhile, has something for.
    """
    side = min(64, max(4, LOOKS // max(1, len(low))))
    for band in range(BANDS):
        yield from _of_band(signatures, band, low & (found < 0), high, found, side)


def _of_band(signatures: Signatures, band: int, low: Bools, high: Bools, found: Ints, side: int) -> Iterator[Pairs]:
    chosen = np.flatnonzero(low | high)
    buckets = signatures.bands[band, chosen]
    order = np.lexsort((_following(signatures, band, chosen), buckets))
    documents, buckets = chosen[order], buckets[order]
    highs = np.flatnonzero(high[documents])
    lows = np.flatnonzero(low[documents])
    at = np.searchsorted(highs, lows)
    ways = [(lows, at - 1, -1), (lows, at, 1)]
    for _ in range(side):
        for i, (left, place, step) in enumerate(ways):
            inside = np.flatnonzero((place >= 0) & (place < len(highs)))
            left, place = left[inside], place[inside]
            same = np.flatnonzero((buckets[left] == buckets[highs[place]]) & (found[documents[left]] < 0))
            left, place = left[same], place[same]
            a, b = documents[left], documents[highs[place]]
            alike = np.flatnonzero((a != b) & signatures.alike(a, b))
            if len(alike):
                yield a[alike], b[alike]
            ways[i] = (left, place + step, step)


def _following(signatures: Signatures, band: int, chosen: Ints) -> U64:
    """The lowest bytes of the eight values behind a band's, as one number."""
    columns = np.arange((band + 1) * ROWS, (band + 1) * ROWS + 8) % HASHES
    return np.ascontiguousarray(signatures.bytes[chosen][:, columns]).view(">u8").astype(np.uint64).reshape(-1)


def _hashed(values: Values) -> U64:
    found = np.zeros(len(values), np.uint64)
    for column in range(values.shape[1]):
        found = mixed(found * np.uint64(0x9E3779B97F4A7C15) + values[:, column])
    return found
