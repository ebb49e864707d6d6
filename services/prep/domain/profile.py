"""A dataset's profile as plain data: counts, lengths, languages, duplicates, drops, examples. Draws nothing.

The same dataset has the same profile: what is sampled is taken evenly from the rows as they are sorted by digest.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from services.prep.domain import languages
from services.prep.domain.pipeline import Dataset
from services.prep.domain.plots import REST
from services.prep.domain.rows import SPLITS, Drop, Row

Profile = dict[str, Any]
CountTokens = Callable[[list[str]], list[int]]
"""Texts -> the number of tokens of each."""

TOP = 20
BINS = 30
EXAMPLES = 5
EXCERPT = 600


def words(texts: list[str]) -> list[int]:
    """White-space words, for where no tokenizer is at hand."""
    return [len(text.split()) for text in texts]


def profile(dataset: Dataset, count_tokens: CountTokens, unit: str, sample: int) -> Profile:
    """The profile; token counts and languages come from at most `sample` rows. `unit` says what a token is."""
    rows = dataset.rows
    some = evenly(rows, sample)
    return {
        "version": dataset.version,
        "records": len(rows) + len(dataset.drops),
        "rows": len(rows),
        "counts": dataset.counts(),
        "formats": top(Counter(row.kind for row in rows)),
        "tags": tags(rows),
        "prompts": {"distinct": len({row.prompt_key for row in rows}), "of": len(rows)},
        "characters": {
            "prompt": spread([len(row.prompt) for row in rows]),
            "completion": spread([len(row.completion) for row in rows]),
        },
        "tokens": {
            "unit": unit,
            "sampled": len(some),
            "prompt": spread(count_tokens([row.prompt for row in some])),
            "completion": spread(count_tokens([row.completion for row in some])),
        },
        "languages": {
            "detected_by": "script and frequent words",
            "sampled": len(some),
            "found": top(Counter(languages.detect_language(f"{row.prompt}\n{row.completion}") for row in some)),
        },
        "drops": drops(dataset.drops),
        "examples": {split: [example(row) for row in dataset.split(split)[:EXAMPLES]] for split in SPLITS},
    }


def evenly(rows: Sequence[Row], most: int) -> list[Row]:
    """At most `most` rows at even distances."""
    step = max(1, -(-len(rows) // most))
    return list(rows[::step])


def top(found: Counter[str]) -> dict[str, int]:
    """The most frequent values; the rest together."""
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(n for _, n in ordered[TOP:])
    return dict(ordered[:TOP]) | ({REST: rest} if rest else {})


def tags(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Rows by value of each tag, the tags that most rows have first."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in json.loads(row.tags).items():
            found.setdefault(name, Counter())[value] += 1
    ordered = sorted(found, key=lambda name: (-found[name].total(), name))
    return {name: top(found[name]) for name in ordered[:TOP]}


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


def drops(found: Sequence[Drop]) -> dict[str, Any]:
    """By reason: how many, and some of them with the record they repeat."""
    by_reason: dict[str, list[Drop]] = {}
    for drop in found:
        by_reason.setdefault(drop.reason, []).append(drop)
    return {
        reason: {
            "n": len(some),
            "examples": [{"record_id": d.record_id, "because_of": d.because_of} for d in some[:EXAMPLES]],
        }
        for reason, some in sorted(by_reason.items())
    }


def example(row: Row) -> dict[str, str]:
    """A row as a person reads it."""
    return {
        "record_id": row.record_id,
        "format": row.format,
        "prompt": excerpt(row.prompt),
        "completion": excerpt(row.completion),
    }


def excerpt(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"
