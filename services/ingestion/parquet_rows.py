"""Rows of a Parquet file as JSONL, in a process of its own: `python -m services.ingestion.parquet_rows SOURCE TARGET BYTES`.

So the service itself holds no pyarrow, and a file made to burst takes only this process with it. Ends with status 1 and
the reason on standard error where the file cannot be read.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any, cast

MEMORY = 4 << 30
ROWS = 64
"""Rows at a time; one row may be a megabyte."""


class Unreadable(ValueError):
    """The file is no Parquet, or unpacks to too much."""


def unpack(source: Path, target: Path, limit: int) -> None:
    """Writes a line a row; columns and fields without a value are left out.

    Raises:
        Unreadable: the file is no Parquet, or the lines have more than `limit` bytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    written = 0
    try:
        with target.open("wb") as out:
            for batch in pq.ParquetFile(source).iter_batches(batch_size=ROWS, use_threads=False):
                for row in batch.to_pylist():
                    written += out.write(line(row))
                    if written > limit:
                        raise Unreadable(f"the file unpacks to more than {limit} bytes; send it in parts")
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise Unreadable(f"the file cannot be read as Parquet: {error}") from error


def line(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON."""
    return json.dumps(without_nulls(row), ensure_ascii=False, default=str).encode(errors="replace") + b"\n"


def without_nulls(value: Any) -> Any:
    """A value without the fields that are null: Parquet gives every row all fields of its schema."""
    if isinstance(value, dict):
        fields = cast(dict[str, Any], value)
        return {key: without_nulls(item) for key, item in fields.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in cast(list[Any], value)]
    return value


def main() -> None:
    """Reads the command line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    source, target, limit = sys.argv[1:]
    try:
        unpack(Path(source), Path(target), int(limit))
    except Unreadable as error:
        sys.exit(str(error)[:500])


if __name__ == "__main__":
    main()
