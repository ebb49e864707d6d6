"""Rows of files of columns: Parquet, Arrow (file and stream), a dataset that Hugging Face's `save_to_disk` wrote."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.chassis.rows.row import MAX_LINE, Row, Unreadable, flaw, line

ROWS = 64
"""Rows at a time; one row may be a megabyte."""
BUFFER = 1 << 18
"""Bytes of a column that are read at a time. Without it pyarrow reads a column of a whole row group: 1.9 GB for a file of 1.6."""


def parquet(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        Unreadable: `not_parquet`, `cannot_read`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
            wanted = _without_index(file.schema_arrow)
            batches = file.iter_batches(batch_size=ROWS, columns=wanted, use_threads=False)
            yield from _rows(batches, max(file.metadata.num_rows, 1))
    except (pa.ArrowException, MemoryError, OSError) as error:
        raise Unreadable("not_parquet", f"{path.name} is not Parquet that can be read: {error}"[:400]) from error


def arrow(path: Path) -> Iterator[Row]:
    """The rows of an Arrow IPC file or stream.

    Raises:
        Unreadable: `not_arrow`.
    """
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as source:
            size = max(source.size(), 1)
            for number, (row, at) in enumerate(_arrow_rows(source, path), 1):
                yield Row(number, _line(row), min(1.0, at / size))
    except (pa.ArrowException, MemoryError, OSError) as error:
        raise Unreadable("not_arrow", f"{path.name} is not Arrow that can be read: {error}"[:400]) from error


def _arrow_rows(source: Any, path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    from pyarrow import ipc

    with path.open("rb") as head:
        is_file = head.read(6) == b"ARROW1"
    if is_file:
        reader: Any = ipc.open_file(source)
        batches = (
            (reader.get_batch(i), source.size() * (i + 1) // reader.num_record_batches)
            for i in range(reader.num_record_batches)
        )
    else:
        stream: Any = ipc.open_stream(source)
        batches = ((batch, source.tell()) for batch in stream)
    for batch, at in batches:
        kept = batch.select(_without_index(batch.schema))
        for start in range(0, kept.num_rows, ROWS):
            for row in _python(kept.slice(start, ROWS)):
                yield row, at


def saved_dataset(folder: Path) -> list[Path]:
    """The Arrow files of a dataset that `save_to_disk` wrote, by its state.json; of a DatasetDict with one split, of that.

    Raises:
        Unreadable: `several_splits`, `not_arrow`.
    """
    try:
        if (splits := folder / "dataset_dict.json").is_file():
            names = [str(name) for name in json.loads(splits.read_bytes())["splits"]]
            if len(names) != 1:
                raise Unreadable(
                    "several_splits",
                    f"{folder.name} holds the splits {', '.join(names)}; name one: {folder}/{names[0]}",
                )
            folder = folder / names[0]
        files = json.loads((folder / "state.json").read_bytes())["_data_files"]
        return [folder / Path(file["filename"]).name for file in files]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable("not_arrow", f"{folder.name} is no saved dataset: {error!r}"[:300]) from error


def _without_index(schema: Any) -> list[str]:
    """The columns that are no index of pandas'; without any other the index too."""
    index: list[Any] = (schema.pandas_metadata or {}).get("index_columns", [])
    named = {name for name in index if isinstance(name, str) and name.startswith("__index_level_")}
    return [name for name in schema.names if name not in named]


def _rows(batches: Iterator[Any], total: int) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for row in _python(batch):
            number += 1
            yield Row(number, _line(row), number / total)


def _python(batch: Any) -> list[dict[str, Any]]:
    """Rows as dictionaries; a map is one too, whose last value of a key counts."""
    return batch.to_pylist(maps_as_pydicts="lossy")


def _line(row: dict[str, Any]) -> bytes:
    made = line(row)
    return made if len(made) <= MAX_LINE else flaw("too_large", f"the row has {len(made)} bytes of JSON")
