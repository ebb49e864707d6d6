"""Figures of values: spreads with their histograms, the most frequent, even samples. Knows no dataset."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

TOP = 20
BINS = 30
EXCERPT = 600
REST = "(others)"
"""The name of what is left over: it is no value of its own and is drawn paler."""


def words(texts: list[str]) -> list[int]:
    """White-space words, for where no tokenizer is at hand."""
    return [len(text.split()) for text in texts]


def evenly(values: Sequence[T], most: int) -> list[T]:
    """At most `most` values at even distances."""
    step = max(1, -(-len(values) // max(1, most)))
    return list(values[::step])


def top(found: Counter[str], most: int = TOP) -> dict[str, int]:
    """The most frequent values; the rest together."""
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    ordered = [item for item in ordered if item[0] != REST]
    rest = sum(n for _, n in ordered[most:]) + found.get(REST, 0)
    return dict(ordered[:most]) | ({REST: rest} if rest else {})


def spread(values: Sequence[int]) -> dict[str, Any]:
    """n, sum, least, mean, percentiles (nearest rank), greatest, and a histogram up to the 99th percentile.

    `histogram` holds `width` and the counts of [0, width), [width, 2 width) ...; the last bin holds all that is greater.
    """
    if not values:
        return {"n": 0, "sum": 0, "histogram": {"width": 1, "counts": []}}
    ordered = sorted(values)
    at = {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (5, 50, 95, 99)}
    width = max(1, -(-(at["p99"] + 1) // BINS))
    binned = Counter(min(value // width, at["p99"] // width) for value in ordered)
    counts = [binned[i] for i in range(max(binned) + 1)]
    return {
        "n": len(ordered),
        "sum": sum(ordered),
        "least": ordered[0],
        "mean": round(sum(ordered) / len(ordered), 2),
        **at,
        "greatest": ordered[-1],
        "histogram": {"width": width, "counts": counts},
    }


def excerpt(text: str, most: int = EXCERPT) -> str:
    """The beginning of a long text."""
    return text if len(text) <= most else text[: most - 1] + "…"
