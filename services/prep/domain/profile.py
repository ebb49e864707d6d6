"""A dataset's profile as plain data: counts, lengths, languages, duplicates, drops, examples. Draws nothing.

The same dataset has the same profile: what is sampled is taken evenly from the rows as they are sorted by digest.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from services.prep.domain import languages
from services.prep.domain.plots import REST
from services.prep.domain.reading import Reading, read
from services.prep.domain.rows import DROPS, SPLITS

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


def profile(
    files: Mapping[str, Path],
    version: str,
    counts: dict[str, int],
    left_out: dict[str, int],
    count_tokens: CountTokens,
    unit: str,
    sample: int,
) -> Profile:
    """The profile of a dataset's files; what texts say comes from at most `sample` rows. `unit` says what a token is."""
    total = sum(counts.values())
    step = max(1, -(-total // sample))
    rows = {split: sampled(files[split], step) for split in SPLITS}
    some = [reading for found in rows.values() for _, _, reading in found]
    columns = [pq.read_table(files[split], columns=["prompt_key", "tags"]) for split in SPLITS]
    return {
        "version": version,
        "records": total + sum(left_out.values()),
        "rows": total,
        "counts": counts,
        "formats": top(Counter(reading.kind for reading in some)),
        "tags": tags(text for table in columns for text in table.column("tags").to_pylist()),
        "prompts": {"distinct": len({key for t in columns for key in t.column("prompt_key").to_pylist()}), "of": total},
        "characters": {
            "prompt": spread([len(reading.prompt) for reading in some]),
            "completion": spread([len(reading.completion) for reading in some]),
        },
        "tokens": {
            "unit": unit,
            "sampled": len(some),
            "prompt": spread(count_tokens([reading.prompt for reading in some])),
            "completion": spread(count_tokens([reading.completion for reading in some])),
        },
        "languages": {
            "detected_by": "script and frequent words",
            "sampled": len(some),
            "found": top(Counter(languages.detect_language(f"{r.prompt}\n{r.completion}") for r in some)),
        },
        "drops": drops(files[DROPS]),
        "examples": {split: [example(*row) for row in rows[split][:EXAMPLES]] for split in SPLITS},
    }


def sampled(path: Path, step: int) -> list[tuple[str, str, Reading]]:
    """Every `step`th row of a file: its record_id, format and what it says."""
    found: list[tuple[str, str, Reading]] = []
    at = 0
    for batch in pq.ParquetFile(path).iter_batches(2000, columns=["record_id", "format", "record"]):
        chosen = batch.slice(-at % step).to_pylist()[::step]
        found += [(row["record_id"], row["format"], read(row["format"], row["record"])) for row in chosen]
        at += batch.num_rows
    return found


def top(found: Counter[str]) -> dict[str, int]:
    """The most frequent values; the rest together."""
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(n for _, n in ordered[TOP:])
    return dict(ordered[:TOP]) | ({REST: rest} if rest else {})


def tags(rows: Iterable[str]) -> dict[str, dict[str, int]]:
    """Rows by value of each tag, the tags that most rows have first."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in json.loads(row).items():
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


def drops(path: Path) -> dict[str, Any]:
    """By reason: how many, and some of them with the record they repeat."""
    by_reason: dict[str, list[Any]] = {}
    counts: Counter[str] = Counter()
    for row in _rows(path, ["record_id", "reason", "because_of"]):
        counts[row["reason"]] += 1
        if counts[row["reason"]] <= EXAMPLES:
            by_reason.setdefault(row["reason"], []).append({k: row[k] for k in ("record_id", "because_of")})
    return {reason: {"n": counts[reason], "examples": by_reason[reason]} for reason in sorted(counts)}


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(path).iter_batches(columns=columns):
        yield from batch.to_pylist()


def example(record_id: str, format: str, reading: Reading) -> dict[str, str]:
    """A row as a person reads it."""
    return {
        "record_id": record_id,
        "format": format,
        "prompt": excerpt(reading.prompt),
        "completion": excerpt(reading.completion),
    }


def excerpt(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"
