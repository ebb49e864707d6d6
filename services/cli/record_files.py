"""A file of records in batches for ingestion, by the reader that ingestion has too, from any row on. Validates nothing.

Whether a row is a record is ingestion's to say; here rows are only counted, so that it can be told which one is wrong.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.chassis.rows.reading import rows
from services.chassis.rows.row import Row, Unreadable
from services.cli.errors import Usage

LINES = 500
BYTES = 2_000_000
HUB = "hf://"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records as JSON lines, the number of each in the file (from 1), and the share of the file read so far."""

    body: bytes
    numbers: tuple[int, ...]
    share: float


def batches(source: str | Path, after: int = 0) -> Iterator[Batch]:
    """The rows behind number `after` of a file, a folder or an hf:// address, in batches of at most LINES and about BYTES.

    Raises:
        Usage: it cannot be read.
    """
    try:
        yield from _grouped(row for row in _rows(source) if row.number > after)
    except Unreadable as error:
        raise Usage(error.code, str(error)) from error


def _rows(source: str | Path) -> Iterator[Row]:
    if str(source).startswith(HUB):
        from services.chassis.rows.hub import hub_rows

        return hub_rows(str(source))
    return rows(Path(source))


def _grouped(found: Iterable[Row]) -> Iterator[Batch]:
    held: list[Row] = []
    weight = 0
    for row in found:
        if held and (len(held) >= LINES or weight + len(row.json) > BYTES):
            yield _batch(held)
            held, weight = [], 0
        held.append(row)
        weight += len(row.json)
    if held:
        yield _batch(held)


def _batch(found: list[Row]) -> Batch:
    return Batch(b"\n".join(row.json for row in found), tuple(row.number for row in found), found[-1].share)
