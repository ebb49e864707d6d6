"""Words and runs of words as 64-bit numbers, computed for a column at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.prep.domain.arrow import Column

U64 = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
MOST_BYTES = 500_000
"""Of text that is hashed at once: the powers of its places take eight times as much."""
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The words of documents one after the other, `hashes` (n,), and where each document's begin, `offsets` (documents + 1,)."""

    hashes: U64
    offsets: Ints

    def documents(self) -> Ints:
        """The document of each word."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def mixed(values: U64) -> U64:
    """A bijection that makes neighbours unlike: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def tokens(texts: Column) -> Tokens:
    """The words of each text, which stand with one space between each."""
    parts = [_hashed(part) for part in _parts(texts)]
    counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.offsets) for part in parts)])
    hashes = np.concatenate([np.empty(0, np.uint64), *(part.hashes for part in parts)])
    return Tokens(hashes, np.cumsum(counts))


def runs(found: Tokens, length: int) -> tuple[U64, Ints]:
    """Every run of `length` words within a document as one number, and the place of its first word."""
    hashes, documents = found.hashes, found.documents()
    count = max(0, len(hashes) - length + 1)
    starts = np.flatnonzero(documents[:count] == documents[length - 1 :]) if count else np.empty(0, np.int64)
    value = np.zeros(len(starts), np.uint64)
    for place in range(length):
        value = mixed(value * np.uint64(_BASE) + hashes[starts + place])
    return value, starts


def _parts(texts: Column) -> Iterator[Column]:
    """Slices of at most `MOST_BYTES`, or of one text."""
    texts = texts.cast(pa.large_string())
    offsets = np.frombuffer(_buffer(texts, 1), np.int64)[texts.offset : texts.offset + len(texts) + 1]
    begin = 0
    while begin < len(texts):
        end = int(np.searchsorted(offsets, offsets[begin] + MOST_BYTES, "right")) - 1
        end = max(begin + 1, min(end, len(texts)))
        yield texts.slice(begin, end - begin)
        begin = end


def _hashed(texts: Column) -> Tokens:
    """Polynomial hashes of all words by one running sum: (sum up to the end - sum up to the start) / base ^ start."""
    offsets = np.frombuffer(_buffer(texts, 1), np.int64)[texts.offset : texts.offset + len(texts) + 1]
    raw = np.frombuffer(_buffer(texts, 2) or b"", np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    begins, ends = offsets[:-1][np.diff(offsets) > 0], offsets[1:][np.diff(offsets) > 0]
    spaces = np.flatnonzero(raw == ord(" "))
    starts, stops = np.sort(np.concatenate([begins, spaces + 1])), np.sort(np.concatenate([spaces, ends]))
    powers, inverses = _powers(_BASE, len(raw)), _powers(_INVERSE, len(raw))
    sums = np.zeros(len(raw) + 1, np.uint64)
    np.cumsum((raw.astype(np.uint64) + np.uint64(1)) * powers, out=sums[1:])
    hashes = mixed((sums[stops] - sums[starts]) * inverses[starts] + (stops - starts).astype(np.uint64))
    return Tokens(hashes, np.searchsorted(starts, offsets))


@cache
def _kept_powers(base: int) -> U64:
    return _new_powers(base, MOST_BYTES)


def _powers(base: int, count: int) -> U64:
    return _kept_powers(base)[:count] if count <= MOST_BYTES else _new_powers(base, count)


def _new_powers(base: int, count: int) -> U64:
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _buffer(texts: Any, number: int) -> Any:
    return texts.buffers()[number]
