"""Drops training rows that have many words in a row in common with a held-out or validation record, or with another dataset.

After Brown et al., "Language Models are Few-Shot Learners" (2020), appendix C, who took 13 words. Runs that many records share
are templates (near/templates.py) and contaminate nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from services.prep.domain.arrow import Column
from services.prep.domain.frame import Bools, Dropped, Frame, Ints, Step
from services.prep.domain.near.hashing import U64, runs, tokens
from services.prep.domain.near.templates import MANY

Sets = Mapping[str, Callable[[], Iterable[Column]]]
"""Datasets by name: what gives the words of their records, with a space between each, in batches."""


def step(words: int, against: Sequence[str], sets: Sets) -> Step:
    """The reasons `contaminated`, because of a record that has the run of words too, and `contaminated_NAME`."""

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        held = left & frame.of("held_out", "validation")
        known, owners = _rare(_batches(frame, held, words))
        rows, at = _repeating(frame, left & frame.of("train"), known, words)
        yield Dropped("contaminated", rows, owners[at])
        for name in against:
            left = left.copy()
            left[rows] = False
            known, _ = _rare(_numbered(sets[name](), words))
            rows, at = _repeating(frame, left & frame.of("train"), known, words)
            yield Dropped(f"contaminated_{name}", rows, np.full(len(rows), -1))

    return found


def _repeating(frame: Frame, chosen: Bools, known: U64, words: int) -> tuple[Ints, Ints]:
    """The chosen rows that have a known run, and the place of their first one."""
    place = np.full(len(frame), -1, np.int64)
    if len(known):
        for some, rows in _batches(frame, chosen, words):
            at = np.minimum(np.searchsorted(known, some), len(known) - 1)
            hit = np.flatnonzero(known[at] == some)[::-1]  # so that the first one stands in the end
            place[rows[hit]] = at[hit]
    dropped = np.flatnonzero(place >= 0)
    return dropped, place[dropped]


def _rare(parts: Iterable[tuple[U64, Ints]]) -> tuple[U64, Ints]:
    """Each run that few records have, in order, and the first record that has it."""
    values, owners = _once(parts)
    new = np.ones(len(values), np.bool_)
    new[1:] = values[1:] != values[:-1]
    first = np.flatnonzero(new)
    first = first[np.diff(np.append(first, len(values))) < MANY]
    return values[first], owners[first]


def _numbered(texts: Iterable[Column], words: int) -> Iterable[tuple[U64, Ints]]:
    """The runs of texts, and the number of each one's text."""
    before = 0
    for column in texts:
        found = tokens(column)
        values, starts = runs(found, words)
        yield values, before + found.documents()[starts]
        before += len(column)


def _once(runs_of: Iterable[tuple[U64, Ints]]) -> tuple[U64, Ints]:
    """Each run once a record, in order, and its record."""
    parts = list(runs_of)
    values = np.concatenate([np.empty(0, np.uint64), *(some for some, _ in parts)])
    owners = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in parts)])
    order = np.lexsort((owners, values))
    values, owners = values[order], owners[order]
    once = np.ones(len(values), np.bool_)
    once[1:] = (values[1:] != values[:-1]) | (owners[1:] != owners[:-1])
    return values[once], owners[once]


def _batches(frame: Frame, chosen: Bools, words: int) -> Iterable[tuple[U64, Ints]]:
    for rows, texts in frame.texts("all_words"):
        wanted = np.flatnonzero(chosen[rows])
        found = tokens(texts.take(pa.array(wanted)))
        values, starts = runs(found, words)
        yield values, rows[wanted][found.documents()[starts]]
