"""Drops training rows that have many words in a row in common with a held-out or validation record.

After Brown et al., "Language Models are Few-Shot Learners" (2020), appendix C, who took 13 words. Runs that many records share
are templates (near/templates.py) and contaminate nothing.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from services.prep.domain.frame import Bools, Dropped, Frame, Ints, Step
from services.prep.domain.near.hashing import U64, runs, tokens
from services.prep.domain.near.templates import MANY


def step(words: int) -> Step:
    """The reason `contaminated`, because of a record that has the run of words too."""

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        values, owners = _of_rows(frame, left & frame.of("held_out", "validation"), words)
        new = np.ones(len(values), np.bool_)
        new[1:] = values[1:] != values[:-1]
        first = np.flatnonzero(new)
        rare = np.diff(np.append(first, len(values))) < MANY
        known, known_owners = values[first[rare]], owners[first[rare]]
        because_of = np.full(len(frame), -1, np.int64)
        if len(known):
            for some, rows in _batches(frame, left & frame.of("train"), words):
                at = np.minimum(np.searchsorted(known, some), len(known) - 1)
                hit = np.flatnonzero(known[at] == some)[::-1]  # so that the first one stands in the end
                because_of[rows[hit]] = known_owners[at[hit]]
        dropped = np.flatnonzero(because_of >= 0)
        yield Dropped("contaminated", dropped, because_of[dropped])

    return found


def _of_rows(frame: Frame, chosen: Bools, words: int) -> tuple[U64, Ints]:
    """Each run of the chosen rows once a row, in order, and its row."""
    parts = list(_batches(frame, chosen, words))
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
