"""The items of an upload with their line numbers, in batches of bounded size. Knows no HTTP and no file format."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from contracts.envelope import Malformed, load_json
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid
from services.chassis.rows.reading import rows
from services.ingestion.domain.items import submitted
from services.ingestion.domain.policy import LETS_ALL_IN, Policy

BATCH_ITEMS, BATCH_BYTES = 500, 8 << 20


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


def of_jsonl(path: Path, project: str, policy: Policy = LETS_ALL_IN) -> Iterator[Batch]:
    """The batches of a JSONL file; blank lines are skipped and counted.

    Raises:
        services.chassis.rows.row.Unreadable: it is no text.
    """
    return batches(((row.number, _value(row.json), len(row.json)) for row in rows(path, "jsonl")), project, policy)


def of_json(path: Path, project: str, policy: Policy = LETS_ALL_IN) -> Iterator[Batch]:
    """The batches of a JSON file with one item or an array of them; the place in the array stands for the line.

    Raises:
        Malformed: the file is no JSON.
    """
    whole = load_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    found = cast(list[Any], whole) if isinstance(whole, list) else [whole]
    return batches(((place, item, 0) for place, item in enumerate(found, 1)), project, policy)


def batches(items: Iterable[tuple[int, Any, int]], project: str, policy: Policy = LETS_ALL_IN) -> Iterator[Batch]:
    """(line, value or what is wrong with it, bytes) -> batches."""
    batch = Batch()
    for line, value, size in items:
        _judge(batch, line, value, project, policy)
        batch.bytes += size
        if batch.full:
            yield batch
            batch = Batch()
    if batch.taken or batch.refused:
        yield batch


def _judge(batch: Batch, line: int, value: Any, project: str, policy: Policy) -> None:
    try:
        if isinstance(value, RecordInvalid):
            raise value
        batch.taken.append((line, submitted(project, value, policy)))
    except RecordInvalid as error:
        detail = str(error).encode(errors="backslashreplace").decode()  # it may quote half of a surrogate pair
        batch.refused.append(Refusal(line, error.code, detail))
    except UnicodeEncodeError:
        detail = "half of a surrogate pair is no character; write it as UTF-8"
        batch.refused.append(Refusal(line, "invalid_field", detail))


def _value(raw: bytes) -> Any:
    try:
        return load_json(raw)
    except Malformed as error:
        return RecordInvalid(error.reason, str(error))
