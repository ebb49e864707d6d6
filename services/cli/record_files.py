"""Reads a file of records piece by piece: JSON lines, a JSON array or object, Parquet. Validates nothing.

Whether a line is a record is ingestion's to say; here lines are only counted, so that it can be told which one is wrong.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.cli.errors import Usage

LINES = 500
BYTES = 2_000_000
LONGEST_JSON = 200_000_000
"""Bytes of a JSON array, which is read whole; JSON lines and Parquet have no bound."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records as JSON lines, the number of each in the file (from 1), and the share of the file read so far."""

    body: bytes
    numbers: tuple[int, ...]
    share: float


def batches(path: Path) -> Iterator[Batch]:
    """The file in batches of at most LINES records and about BYTES bytes.

    Raises:
        Usage: the file cannot be read as what its name says it is.
    """
    try:
        size = max(path.stat().st_size, 1)
        reader = {".parquet": _parquet, ".json": _json}.get(path.suffix.lower(), _lines)
        yield from _grouped(reader(path, size))
    except OSError as error:
        raise Usage("cannot_read", f"{path}: {error.strerror or error}") from error


Line = tuple[int, bytes, float]
"""Number, JSON without a newline, share of the file read."""


def _lines(path: Path, size: int) -> Iterator[Line]:
    read = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            read += len(raw)
            line = raw.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else raw.strip()
            if line:
                yield number, line, read / size


def _json(path: Path, size: int) -> Iterator[Line]:
    if size > LONGEST_JSON:
        raise Usage("too_large", f"{path} has {size} bytes; write one record a line (.jsonl)")
    try:
        whole = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Usage("not_json", f"{path} is not JSON: {error}") from error
    records = whole if isinstance(whole, list) else [whole]
    for number, record in enumerate(records, 1):
        yield number, json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass"), number / len(records)


def _parquet(path: Path, size: int) -> Iterator[Line]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        total, number = max(file.metadata.num_rows, 1), 0
        for batch in file.iter_batches(batch_size=LINES):
            for row in batch.to_pylist():
                number += 1
                yield number, _row(row), number / total
    except pa.ArrowException as error:
        raise Usage("not_parquet", f"{path} is not Parquet: {error}") from error


def _row(row: dict[str, object]) -> bytes:
    """A row as JSON; a column that is null in it was not given."""
    given = {name: value for name, value in row.items() if value is not None}
    return json.dumps(given, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def _grouped(lines: Iterator[Line]) -> Iterator[Batch]:
    held: list[Line] = []
    weight = 0
    for line in lines:
        if held and (len(held) >= LINES or weight + len(line[1]) > BYTES):
            yield _batch(held)
            held, weight = [], 0
        held.append(line)
        weight += len(line[1])
    if held:
        yield _batch(held)


def _batch(lines: list[Line]) -> Batch:
    return Batch(b"\n".join(line for _, line, _ in lines), tuple(n for n, _, _ in lines), lines[-1][2])
