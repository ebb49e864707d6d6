"""A dataset's part as a Parquet file, the same bytes for the same rows. Imported by the freezing process alone."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.prep.domain.rows import Row

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
ROWS_A_GROUP = 10_000


def write(rows: list[Row], path: Path) -> None:
    """Writes one row a record, in the order given; `record` and `tags` are canonical JSON."""
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    table = pa.Table.from_pydict(columns, schema=SCHEMA)
    pq.write_table(table, path, row_group_size=ROWS_A_GROUP, compression="zstd")


def prompt_keys(path: Path) -> set[str]:
    """The prompt keys of a file that `write` made."""
    return set(pq.read_table(path, columns=["prompt_key"]).column("prompt_key").to_pylist())
