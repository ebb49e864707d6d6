"""How much of each value of a tag, or of each subject, train holds. Who stays is drawn by content, so that the same ones stay."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from services.prep.domain.frame import Bools, Dropped, Frame, Ints, Step
from services.prep.domain.near.hashing import mixed

NOT = ("", "no", "false", "0")
"""Values of a tag that say that it does not hold."""
NONE = ""
"""The value of rows without the tag or a subject."""


def cap(by: str, most: int) -> Step:
    """The reason `capped`: of one value no more than `most` rows stay. Rows without a value stay."""

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        rows, values = _drawn(frame, left, by)
        dropped = rows[(_place(values) >= most) & (values != NONE)]
        yield Dropped("capped", np.sort(dropped), np.full(len(dropped), -1))

    return found


def mix(by: str, weights: Mapping[str, float]) -> Step:
    """The reason `mixed_out`: the values stand in proportion to their weights, as many as the scarcest one allows.

    A value that has no rows counts for nothing; one without a weight goes.
    """

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        rows, values = _drawn(frame, left, by)
        there = {value: int((values == value).sum()) for value in weights}
        scale = min((n / weights[value] for value, n in there.items() if n), default=0.0)
        quota = {value: round(weight * scale, 6) for value, weight in weights.items()}
        most = np.array([int(quota.get(value, 0)) for value in values.tolist()], np.int64)
        dropped = rows[_place(values) >= most]
        yield Dropped("mixed_out", np.sort(dropped), np.full(len(dropped), -1))

    return found


def synthetic(tag: str, at_most: float) -> Step:
    """The reason `synthetic`: of rows with the tag so many stay that they are at most this share of train."""

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        rows, values = _drawn(frame, left, f"tag:{tag}")
        made = ~np.isin(np.char.lower(values.astype(str)), NOT)
        real = int((~made).sum())
        most = int(round(at_most * real / (1 - at_most), 6))
        dropped = rows[made][most:]
        yield Dropped("synthetic", np.sort(dropped), np.full(len(dropped), -1))

    return found


def _drawn(frame: Frame, left: Bools, by: str) -> tuple[Ints, Any]:
    """The training rows in the order in which they are drawn, and the value of each."""
    values = np.full(len(frame), NONE, object)
    tag = by.removeprefix("tag:") if by != "subject" else None
    for rows, texts in frame.texts("subject" if tag is None else "tags"):
        found = texts.to_pylist()
        values[rows] = [text or NONE if tag is None else json.loads(text).get(tag, NONE) for text in found]
    chosen = np.flatnonzero(left & frame.of("train"))
    order = np.lexsort((chosen, mixed(frame.columns["content_0"][chosen])))
    return chosen[order], values[chosen[order]]


def _place(values: Any) -> Ints:
    """Of each value how many equal ones stand before it."""
    codes = np.unique(values.astype(str), return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    place = np.empty(len(values), np.int64)
    place[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return place
