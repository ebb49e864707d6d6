"""Drops rows whose prompt nearly repeats a prompt of a higher split, so that no split is judged on what another learnt.

Near means that the sets of words have a Jaccard similarity of at least 0.8, and so have the sets of the words that are a
prompt's own: those outside of runs that many prompts share (near/templates.py), so that two questions on one schema are no
repetitions.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import compress, repeat

import numpy as np
import pyarrow as pa

from services.prep.domain.arrow import Column
from services.prep.domain.frame import Bools, Dropped, Frame, Ints, Step, grouped
from services.prep.domain.near import sets
from services.prep.domain.near.buckets import Signatures, Values
from services.prep.domain.near.hashing import Tokens, tokens
from services.prep.domain.near.search import FEW, Documents, first_near, thinned
from services.prep.domain.near.templates import SharedRuns
from services.prep.domain.threads import ahead

Sign = Callable[[Column], Values]
"""The MinHash signatures (texts, HASHES) of the sets of words of texts."""

MOST_KEPT = 25_000_000
"""Words whose hashes are kept from pass to pass, 8 bytes each; where there are more, each pass hashes the texts anew."""
HIGHER = (("held_out", ("validation", "train")), ("validation", ("train",)))
"""What is dropped for being near to what."""


def step(sign: Sign, within_train: bool = False) -> Step:
    """The reasons `near_held_out` and `near_validation`, for what is near within train in prompt and completion `near_train`."""

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        rows = np.flatnonzero(left)
        first, document = grouped(frame.columns["prompt_0"][rows], frame.columns["prompt_1"][rows])
        order = np.argsort(first)  # documents by the record_id of their first row
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        first, document = rows[first[order]], place[document]
        documents = read(frame, first, "words", sign)
        gone = np.zeros(len(first), np.bool_)
        for split, lower in HIGHER:
            low, high = frame.of(*lower)[first] & ~gone, frame.of(split)[first] & ~gone
            near = repeated(documents, low, high)
            gone |= near >= 0
            dropped = near[document] >= 0
            yield Dropped(f"near_{split}", rows[dropped], first[near[document[dropped]]])
        if within_train:
            yield _within_train(frame, rows[~gone[document] & frame.of("train")[rows]], sign)

    return found


def _within_train(frame: Frame, rows: Ints, sign: Sign) -> Dropped:
    first, content = grouped(frame.columns["content_0"][rows], frame.columns["content_1"][rows])
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    first, content = rows[first[order]], place[content]
    near = thinned(read(frame, first, "all_words", sign), np.ones(len(first), np.bool_))
    dropped = near[content] >= 0
    return Dropped("near_train", rows[dropped], first[near[content[dropped]]])


def repeated(documents: Documents, low: Bools, high: Bools) -> Ints:
    """For each document of `low` one of `high` that is near to it, or -1; of equal words first."""
    found = np.full(len(documents), -1, np.int64)
    if not low.any() or not high.any():
        return found
    chosen = np.flatnonzero(low | high)
    _, group = grouped(*(name[chosen] for name in documents.names))
    least = np.full(len(chosen), -1, np.int64)  # of each group the first document of `high`
    highs = np.flatnonzero(high[chosen])[::-1]
    least[group[highs]] = chosen[highs]
    lows = np.flatnonzero(low[chosen])
    found[chosen[lows]] = least[group[lows]]
    open_lows = lows[least[group[lows]] < 0]
    stand_for, of = np.unique(group[open_lows], return_index=True)[1], group[open_lows]
    low_nodes, high_nodes = np.zeros(len(documents), np.bool_), np.zeros(len(documents), np.bool_)
    low_nodes[chosen[open_lows[stand_for]]] = True
    high_nodes[least[least >= 0]] = True
    near = first_near(documents, low_nodes, high_nodes)
    of_group = np.full(len(chosen), -1, np.int64)
    of_group[of[stand_for]] = near[chosen[open_lows[stand_for]]]
    found[chosen[open_lows]] = of_group[of]
    return found


def read(frame: Frame, rows: Ints, column: str, sign: Sign) -> Documents:
    """The documents that the texts of these rows are, in their order."""
    shared = SharedRuns(int(frame.columns["characters"][rows].sum()) // 6)
    kept: list[Tokens] = []
    held = 0
    for found in _tokens(frame, rows, column):
        shared.add(found)
        held += len(found.hashes)
        kept.append(found)
        if held > MOST_KEPT:
            kept.clear()
    kept = kept if held <= MOST_KEPT else []
    for found in kept or _tokens(frame, rows, column):
        shared.check(found)
    shared.settle()
    signatures = None if len(rows) <= FEW else Signatures(len(rows))

    def parse(
        batch: tuple[tuple[Ints, Column], Tokens | None],
    ) -> tuple[Ints, sets.Sets, Ints, sets.Sets, Values | None]:
        (places, texts), known = batch
        found = known or tokens(texts)
        own_words = shared.own(found)
        some = np.unique(found.documents()[~own_words])
        if len(some):
            texts = _without_shared(texts, found, own_words, some)
        less = sets.of_tokens(found, own_words).chosen(some)
        return places, sets.of_tokens(found), some, less, None if signatures is None else sign(texts)

    parts: list[sets.Sets] = []
    full, own = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    names = np.empty((2, len(rows)), np.uint64)
    count = 0
    batches = zip(_texts(frame, rows, column), kept or repeat(None), strict=False)
    for places, words, some, less, values in ahead(parse, batches):
        parts += [words, less]
        full[places] = own[places] = count + np.arange(len(places))
        own[places[some]] = count + len(places) + np.arange(len(some))
        count += len(places) + len(some)
        names[:, places] = words.names()
        names[1, places[some]] = less.names()
        if signatures is not None and values is not None:
            signatures.put(places, values)
    return Documents(sets.joined(parts), full, own, (names[0], names[1]), signatures)


def _tokens(frame: Frame, rows: Ints, column: str) -> Iterator[Tokens]:
    return ahead(lambda batch: tokens(batch[1]), _texts(frame, rows, column))


def _texts(frame: Frame, rows: Ints, column: str) -> Iterator[tuple[Ints, Column]]:
    """In batches: places in `rows`, and the texts there."""
    place_of = np.full(len(frame), -1, np.int64)
    place_of[rows] = np.arange(len(rows))
    for batch, texts in frame.texts(column):
        places = place_of[batch]
        wanted = np.flatnonzero(places >= 0)
        if len(wanted):
            yield places[wanted], texts.take(pa.array(wanted))


def _without_shared(texts: Column, found: Tokens, own_words: Bools, some: Ints) -> Column:
    """The texts with their own words alone; one that has none keeps all, to be found beside others that have none."""
    result, mine = texts.to_pylist(), own_words.tolist()
    bounds = found.offsets.tolist()
    for i in some.tolist():
        kept = " ".join(compress(result[i].split(" "), mine[bounds[i] : bounds[i + 1]]))
        result[i] = kept or result[i]
    return pa.array(result, pa.string())
