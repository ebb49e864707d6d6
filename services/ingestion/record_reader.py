"""The items of a JSONL or JSON file with their line numbers, in batches of bounded size. Knows no HTTP."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from contracts.envelope import Malformed, load_json
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid
from services.ingestion.domain.items import submitted
from services.ingestion.domain.validation import MAX_RECORD_BYTES

MAX_LINE = 4 * MAX_RECORD_BYTES
"""A record may stand there in escapes that are longer than what they mean."""
BATCH_ITEMS, BATCH_BYTES = 500, 8 << 20

Item = tuple[int, bytes | RecordInvalid]
"""Line from 1 on, and the item's JSON or what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that is not taken."""

    line: int
    reason: str
    detail: str


@dataclass(slots=True)
class Batch:
    """Lines that were read: the events to send and the refusals."""

    taken: list[tuple[int, RecordSubmittedV1]] = field(default_factory=list[tuple[int, RecordSubmittedV1]])
    refused: list[Refusal] = field(default_factory=list[Refusal])
    bytes: int = 0

    @property
    def full(self) -> bool:
        """Whether it is time for the next one."""
        return len(self.taken) + len(self.refused) >= BATCH_ITEMS or self.bytes >= BATCH_BYTES


def of_jsonl(path: Path, project: str) -> Iterator[Batch]:
    """The batches of a JSONL file; blank lines are skipped and counted."""
    return batches(((line, raw, size) for line, raw, size in _lines(path)), project)


def of_json(path: Path, project: str) -> Iterator[Batch]:
    """The batches of a JSON file with one item or an array of them; the place in the array stands for the line.

    Raises:
        Malformed: the file is no JSON.
    """
    whole = load_json(path.read_bytes())
    found = cast(list[Any], whole) if isinstance(whole, list) else [whole]
    return batches(((place, item, 0) for place, item in enumerate(found, 1)), project)


def batches(items: Iterable[tuple[int, Any, int]], project: str) -> Iterator[Batch]:
    """(line, value or what is wrong with it, bytes) -> batches."""
    batch = Batch()
    for line, value, size in items:
        _judge(batch, line, value, project)
        batch.bytes += size
        if batch.full:
            yield batch
            batch = Batch()
    if batch.taken or batch.refused:
        yield batch


def _judge(batch: Batch, line: int, value: Any, project: str) -> None:
    try:
        if isinstance(value, RecordInvalid):
            raise value
        batch.taken.append((line, submitted(project, value)))
    except RecordInvalid as error:
        detail = str(error).encode(errors="backslashreplace").decode()  # it may quote half of a surrogate pair
        batch.refused.append(Refusal(line, error.code, detail))
    except UnicodeEncodeError:
        detail = "half of a surrogate pair is no character; write it as UTF-8"
        batch.refused.append(Refusal(line, "invalid_field", detail))


def _lines(path: Path) -> Iterator[tuple[int, Any, int]]:
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            if len(raw) > MAX_LINE:
                _skip_line(file, raw)
                yield number, RecordInvalid("too_large", f"the line has more than {MAX_LINE} bytes"), MAX_LINE
                continue
            text = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            if text.strip():
                yield number, _value(text), len(raw)


def _skip_line(file: Any, raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(MAX_LINE)


def _value(raw: bytes) -> Any:
    try:
        return load_json(raw)
    except Malformed as error:
        return RecordInvalid(error.reason, str(error))
