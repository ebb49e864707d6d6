"""Records as Kafka would bring them, for tests without a broker."""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.envelope import encode, new_meta
from tests.integration.tiny.events import Ping


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def ping(
    number: int, do: str = "note", text: str = "", *, key: str = "p", id: str | None = None, offset: int | None = None
) -> Record:
    event = Ping(project=key, number=number, do=do, text=text)
    raw_key, value, headers = encode(event, new_meta(event, "test", id or f"id-{number}"))
    return Record(Ping.TOPIC, 0, number if offset is None else offset, 1, raw_key, value, headers)
