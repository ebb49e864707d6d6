"""Where a candidate does better or worse: the rows that were measured in parts, by tag and by the question's length.

Each part is compared on each metric of the suite: the paired difference with its 95% interval, and a one-sided sign-flip test
for the worse. Of so many tests some look bad by chance, so p is adjusted by Holm over all of them, which holds however parts
overlap and metrics depend. Parts decide nothing. Knows no file.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from contracts.evaluation import SliceDifference
from services.evaluator.domain.predictions import Pairs, Scores, metric_of, pairs
from services.lm.scoring import intervals
from services.lm.scoring.holm import holm
from services.lm.scoring.metrics import KINDS
from services.lm.scoring.paired import sign_flip

LEAST = 10
"""Rows of a part at least: with fewer the bootstrap's interval is too narrow."""
MOST = 30
"""Parts that are compared, the largest: more would leave each of them less of the level."""
FLIPS = 9_999
"""Random arrangements of a test: p is 0.0001 at least, which Holm over MOST parts and ten metrics brings to 0.03."""
NAME = 60
"""Characters of a tag's name or value that are shown."""
LENGTH = ""
"""Stands for the tag where parts are by the question's length."""


class Row(Protocol):
    """What parts are made of: a row's tags, and its question, None of plain text."""

    @property
    def tags(self) -> Mapping[str, str]:
        """The record's tags."""
        ...

    @property
    def question(self) -> str | None:
        """What was asked, without the system prompt."""
        ...


class Part(NamedTuple):
    """Rows by their indices; `tag` and `value` fit to be shown, LENGTH for parts by the question's length."""

    tag: str
    value: str
    rows: tuple[int, ...]


class Comparison(NamedTuple):
    """The differences of all parts, the worst for the candidate first; parts that were compared, and that were not."""

    differences: tuple[SliceDifference, ...]
    parts: int
    left_out: int


def compare(rows: Sequence[Row], candidate: Scores, champion: Scores) -> Comparison:
    """Candidate minus champion on each part of `rows` and each metric that LEAST of a part's rows have."""
    found, left_out = parts(rows)
    measured = [
        (part, name, both)
        for part in found
        for name in candidate.values
        if name in champion.values and len((both := pairs(name, *_of(part, candidate, champion))).own) >= LEAST
    ]
    p = {(part.tag, part.value, name): _worse(name, both) for part, name, both in measured}
    adjusted = holm(p)
    differences = [
        _difference(part, name, both, p[part.tag, part.value, name], adjusted[part.tag, part.value, name])
        for part, name, both in measured
    ]
    return Comparison(tuple(sorted(differences, key=_badness)), len(found), left_out)


def worst(differences: Sequence[SliceDifference], most: int) -> tuple[SliceDifference, ...]:
    """The first `most` of `compare` on which the candidate's figure is the worse one."""
    return tuple(d for d in differences if _harm(d) > 0)[:most]


def parts(rows: Sequence[Row]) -> tuple[list[Part], int]:
    """At most MOST parts of LEAST rows and more that are not all rows; how many more there were with two rows and more."""
    by_tag: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        for tag, value in row.tags.items():
            by_tag[tag, value].append(index)
    several = [(tag, value, at) for (tag, value), at in by_tag.items() if 1 < len(at) < len(rows)]
    large = sorted((s for s in several if len(s[2]) >= LEAST), key=lambda s: (-len(s[2]), s[0], s[1]))
    lengths = [part for part in _by_length(rows) if LEAST <= len(part.rows) < len(rows)]
    kept = large[: MOST - len(lengths)]
    tagged = [Part(shown(tag), shown(value), tuple(at)) for tag, value, at in kept]
    return lengths + tagged, len(several) - len(kept)


def shown(text: str) -> str:
    """A tag's name or value on one line and of NAME characters at most, without signs that steer a terminal or a page.

    What differs from `text` has the beginning of its digest behind it, so that two stay two.
    """
    plain = "".join("\ufffd" if unicodedata.category(sign)[0] == "C" else sign for sign in text)
    plain = " ".join(plain.split())
    short = plain if len(plain) <= NAME else plain[: NAME - 1] + "…"
    if short == text and text:
        return text
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{short} ({digest})".strip()


def _by_length(rows: Sequence[Row]) -> Iterator[Part]:
    """Thirds of the questions by their characters; questions of one length are on one side."""
    lengths = {index: len(row.question) for index, row in enumerate(rows) if row.question is not None}
    if not lengths:
        return
    ordered = sorted(lengths.values())
    low, high = ordered[(len(ordered) - 1) // 3], ordered[2 * (len(ordered) - 1) // 3]
    yield Part(LENGTH, f"up to {low} characters", tuple(i for i, n in lengths.items() if n <= low))
    if high > low:
        middle = tuple(i for i, n in lengths.items() if low < n <= high)
        yield Part(LENGTH, f"{low + 1} to {high} characters", middle)
    yield Part(LENGTH, f"{high + 1} characters and more", tuple(i for i, n in lengths.items() if n > high))


def _of(part: Part, *all_rows: Scores) -> tuple[Scores, ...]:
    return tuple(
        Scores(
            {name: [column[i] for i in part.rows] for name, column in scores.values.items()},
            [scores.tokens[i] for i in part.rows],
        )
        for scores in all_rows
    )


def _worse(name: str, both: Pairs) -> float:
    upward = not KINDS[name].higher_is_better
    return sign_flip(both.own, both.other, 0.0, upward, both.weights, FLIPS).p


def _difference(part: Part, name: str, both: Pairs, p: float, adjusted: float) -> SliceDifference:
    own, other = both.weights or (None, None)
    interval = intervals.difference(both.own, both.other, both.weights)
    return SliceDifference(
        tag=part.tag,
        value=part.value,
        metric=name,
        candidate=_mean(both.own, own),
        champion=_mean(both.other, other),
        difference=metric_of(name, interval, len(both.own)),
        p=p,
        adjusted=adjusted,
    )


def _mean(values: Sequence[float], weights: Sequence[int] | None) -> float:
    counted = weights or [1] * len(values)
    return sum(v * w for v, w in zip(values, counted, strict=True)) / sum(counted)


def _badness(found: SliceDifference) -> tuple[float, float, str, str, str]:
    return found.adjusted, found.p, found.tag, found.value, found.metric


def _harm(found: SliceDifference) -> float:
    return -found.difference.value if found.difference.higher_is_better else found.difference.value
