"""When a dataset's records were accepted, by where they came from. Reads three columns."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.prep.profiling.figures import REST

CALL: Any = pc
"""pyarrow makes its functions when it is imported."""
BY = ("source", "origin", "channel", "dataset", "category")
"""The tags that say where a record came from; the first that is there."""
MOST_SOURCES = 5
MOST_BUCKETS = 60
UNITS = {"hour": ("%Y-%m-%dT%H:00Z", 3600), "day": ("%Y-%m-%d", 86_400), "month": ("%Y-%m", 0)}
"""A bucket's name and length in seconds."""


def over_time(files: Mapping[str, Path], splits: Sequence[str], tags: Sequence[str]) -> dict[str, Any] | None:
    """Counts by hour, day or month and by the source's tag, the greatest sources first; None where no time is known.

    `tags` are the names there are. Without one of BY all records are of one source.
    """
    tag = next((name for name in BY if name in tags), None)
    found: Counter[tuple[str, int]] = Counter()
    for split in splits:
        file = pq.ParquetFile(files[split])
        if "accepted_at" not in file.schema_arrow.names:
            return None
        for batch in file.iter_batches(batch_size=65_536, columns=["tags", "accepted_at"]):
            table = pa.table({"source": _source(batch.column("tags"), tag), "hour": _hour(batch.column("accepted_at"))})
            for row in table.group_by(["source", "hour"]).aggregate([([], "count_all")]).to_pylist():
                if row["hour"] is not None:
                    found[row["source"], row["hour"]] += row["count_all"]
    if not found:
        return None
    first, last = min(hour for _, hour in found), max(hour for _, hour in found)
    unit = next((u for u, (_, s) in UNITS.items() if s and (last - first) * 3600 < MOST_BUCKETS * s), "month")
    by_source: dict[str, Counter[str]] = {}
    for (source, hour), n in found.items():
        bucket = datetime.fromtimestamp(hour * 3600, UTC).strftime(UNITS[unit][0])
        by_source.setdefault(source, Counter())[bucket] += n
    ordered = sorted(by_source, key=lambda source: (-by_source[source].total(), source))
    shown = {source: dict(sorted(by_source[source].items())) for source in ordered[:MOST_SOURCES]}
    rest = sum((by_source[source] for source in ordered[MOST_SOURCES:]), Counter[str]())
    return {"tag": tag, "unit": unit, "counts": shown | ({REST: dict(sorted(rest.items()))} if rest else {})}


def _hour(at: Any) -> Any:
    """Hours since 1970."""
    return CALL.divide(CALL.cast(CALL.cast(at, pa.timestamp("us", tz="UTC")), pa.int64()), 3_600_000_000)


def _source(tags: Any, tag: str | None) -> Any:
    """The tag's value of each row, `none` where it has none; of canonical JSON, where an unescaped quote ends a text."""
    if tag is None:
        return pa.repeat("all", len(tags))
    found = CALL.extract_regex(tags, pattern=rf'[{{,]"{tag}":"(?P<value>(?:[^"\\]|\\.)*)"')
    encoded = CALL.dictionary_encode(CALL.fill_null(CALL.struct_field(found, "value"), "none"))
    values = pa.array([json.loads(f'"{value}"') for value in encoded.dictionary.to_pylist()], pa.string())
    return values.take(encoded.indices)
