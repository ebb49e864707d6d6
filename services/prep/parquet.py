"""A dataset's parts as Parquet files, the same bytes for the same rows. Imported by the freezing process alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.prep.domain import splits
from services.prep.domain.arrow import Schema, Table, compute

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
        pa.field("accepted_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""A row a record; `record` and `tags` are canonical JSON."""
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
ROWS_A_GROUP, BYTES_A_GROUP = 10_000, 64_000_000


class Part:
    """A file that rows are added to in their order."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._schema = schema
        self._writer: Any = pq.ParquetWriter(path, schema, compression="zstd")
        self._rest: Any = schema.empty_table()

    def add(self, rows: Table) -> None:
        """Takes rows in, of columns in any order and perhaps more of them. Groups are cut by rows and bytes alone."""
        chosen = rows.select(self._schema.names).cast(self._schema)
        self._rest = pa.concat_tables([self._rest, chosen]) if self._rest.num_rows else chosen
        while (end := _group(self._rest)) is not None:
            self._writer.write_table(self._rest.slice(0, end), row_group_size=end)
            self._rest = self._rest.slice(end)

    def close(self) -> None:
        """Writes what is left."""
        if self._rest.num_rows:
            self._writer.write_table(self._rest, row_group_size=self._rest.num_rows)
        self._writer.close()


def _group(rows: Any) -> int | None:
    """How many of the rows make a whole group; None: too few."""
    sizes = np.cumsum(np.asarray(compute.binary_length(rows.column("record"))), dtype=np.int64)
    end = min(ROWS_A_GROUP, int(np.searchsorted(sizes, BYTES_A_GROUP)) + 1)
    return end if end <= rows.num_rows else None


def group_keys(path: Path, by: str) -> Any:
    """The first 64 bits of what the rows of a file are divided by (domain/splits.py), as numpy's uint64."""
    found = pq.read_table(path, columns=["prompt_key", "subject", "tags"]).combine_chunks()
    prompts = np.array([int(key[:16], 16) for key in found.column("prompt_key").to_pylist()], np.uint64)
    subjects, tags = (compute.cast(found.column(name), pa.string()).combine_chunks() for name in ("subject", "tags"))
    return splits.group_keys(by, prompts, subjects, tags)
