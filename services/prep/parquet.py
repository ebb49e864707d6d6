"""A dataset's parts as Parquet files, the same bytes for the same rows. Imported by the freezing process alone."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.prep.domain.rows import Accepted, Drop, Row

SCHEMA = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("record", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("prompt_key", pa.string(), nullable=False),
        pa.field("tags", pa.string(), nullable=False),
        pa.field("subject", pa.string()),
    ]
)
DROPS = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("record", pa.string(), nullable=False),
        pa.field("tags", pa.string(), nullable=False),
        pa.field("subject", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("because_of", pa.string()),
    ]
)
"""What was left out, by record_id, and why."""
ROWS_A_GROUP = 10_000


def write(rows: list[Row], path: Path) -> None:
    """Writes one row a record, in the order given; `record` and `tags` are canonical JSON."""
    _write({name: [getattr(row, name) for row in rows] for name in SCHEMA.names}, SCHEMA, path)


def write_drops(drops: Sequence[Drop], records: Iterable[Accepted], path: Path) -> None:
    """Writes one row a drop, in the order given, with what `records` say of it."""
    left_out = {drop.record_id for drop in drops}
    said = {record.record_id: record for record in records if record.record_id in left_out}
    columns = {name: [getattr(drop, name) for drop in drops] for name in ("record_id", "reason", "because_of")}
    columns |= {
        name: [getattr(said[d.record_id], name) for d in drops] for name in ("format", "record", "tags", "subject")
    }
    _write(columns, DROPS, path)


def _write(columns: Mapping[str, list[Any]], schema: Any, path: Path) -> None:
    table = pa.Table.from_pydict(columns, schema=schema)
    pq.write_table(table, path, row_group_size=ROWS_A_GROUP, compression="zstd")


def prompt_keys(path: Path) -> set[str]:
    """The prompt keys of a file that `write` made."""
    return set(pq.read_table(path, columns=["prompt_key"]).column("prompt_key").to_pylist())
