"""A message from Kafka, its event, and its row in a dead-letter topic. Opens no connection and no transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from contracts.envelope import MAX_BYTES, Event, Malformed, Meta, decode
from contracts.structured import JSON, STRUCTURED, envelopes, is_batch, media_type
from contracts.topics import dead_letter_topic
from services.chassis.messaging import outbox
from services.chassis.messaging.kafka.decompression import Unread
from services.chassis.observability import redaction

MAX_KEY = 1000
"""Bytes: PostgreSQL's index over the lanes of parked messages takes 2,704 in all."""
Handler = Callable[[Any, Meta, Any], Iterable[Event]]
"""handler(event, meta, store) -> events to emit."""
Conceal = Callable[[bytes], bytes]
"""A message's value -> what a dead letter keeps of it."""


class ConsumerRecord(Protocol):
    """What is taken of a Kafka record (aiokafka's ConsumerRecord fits)."""

    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...  # noqa: D102


PART = "noria-part"
"""Header of an event that came in a batch: its place there, from 0. With it the event goes its own way from there on."""


@dataclass(frozen=True, slots=True)
class Part:
    """An event of a batch, as if it had come as a message of its own in structured mode."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Route:
    """The event class of a topic and its handler."""

    event: type[Event]
    handler: Handler


@dataclass(slots=True)
class ParsedMessage:
    """A message with its event, or with the reason why there is none. `identity` is (source, id)."""

    raw: ConsumerRecord
    identity: tuple[str, str]
    meta: Meta | None = None
    event: Event | None = None
    malformed: Malformed | None = None


def routes(handlers: Mapping[type[Event], Handler]) -> dict[str, Route]:
    """Topic -> route."""
    return {event.TOPIC: Route(event, handler) for event, handler in handlers.items()}


def read_all(raw: ConsumerRecord, event: type[Event]) -> list[ParsedMessage]:
    """The message's event, or the events of a batch: an empty one, or one that is none, is one malformed message."""
    value = raw.value
    if value is None or isinstance(value, Unread) or value[:1] not in b"[ \t\r\n" or len(value) > MAX_BYTES:
        return [read(raw, event)]
    named = {name.lower(): text for name, text in raw.headers}
    media = media_type((named.get("content-type") or JSON.encode()).decode("latin-1"))
    if "ce_specversion" in named or not is_batch(media, value):
        return [read(raw, event)]
    try:
        found = envelopes(value)
    except Malformed as error:
        return [_malformed(raw, error)]
    if not found:
        return [_malformed(raw, Malformed("invalid_data", "the batch holds no event"))]
    kept = [(name, text) for name, text in raw.headers if name.lower() not in ("content-type", PART)]
    return [read(_part(raw, place, each, kept), event) for place, each in enumerate(found)]


def _part(raw: ConsumerRecord, place: int, value: bytes, kept: Sequence[tuple[str, bytes | None]]) -> Part:
    headers = [("content-type", STRUCTURED.encode()), (PART, str(place).encode()), *kept]
    return Part(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.key, value, headers)


def read(raw: ConsumerRecord, event: type[Event]) -> ParsedMessage:
    """The message's event. Never raises: a message that is none carries the reason."""
    if raw.key is not None and len(raw.key) > MAX_KEY:
        return _malformed(raw, Malformed("bad_key", f"the key has {len(raw.key)} bytes; at most {MAX_KEY} are taken"))
    if isinstance(raw.value, Unread):
        return _malformed(raw, Malformed(raw.value.reason, raw.value.detail[:500]))
    try:
        received = decode(event, raw.headers, raw.value)
    except Malformed as error:
        return _malformed(raw, error)
    except Exception as error:
        return _malformed(raw, Malformed("unreadable", f"{type(error).__name__}: {error}"[:500]))
    return ParsedMessage(raw, (received.meta.source, received.meta.id), received.meta, received.data)


def _malformed(raw: ConsumerRecord, error: Malformed) -> ParsedMessage:
    # Not the one that was raised: its traceback holds the whole batch, in a cycle that waits for the garbage collector.
    return ParsedMessage(raw, _place(raw), malformed=Malformed(error.reason, str(error)))


def _place(raw: ConsumerRecord) -> tuple[str, str]:
    # No event has an empty id, so none can take this identity. The record's own time makes the place unique even where
    # a topic was made anew and counts from 0 again.
    return (f"kafka:{raw.topic}/{_offset(raw)}/{raw.timestamp}", "")


def _offset(raw: ConsumerRecord) -> str:
    """Partition and offset, and the place in its batch of an event that came in one."""
    part = next((text for name, text in raw.headers if name == PART), None)
    behind = "" if part is None else "/" + part.decode("utf-8", "replace")[:20]
    return f"{raw.partition}/{raw.offset}{behind}"


def refuse_conflict(item: ParsedMessage) -> None:
    """Makes a message malformed whose identity another one has; it goes by its place from here on."""
    source, id = item.identity
    item.malformed = Malformed("id_conflict", f"another body was taken as {id!r} from {source!r} before; give a new id")
    item.identity = _place(item.raw)


def dead_letter_id(raw: ConsumerRecord, group: str) -> str:
    """The id of the dead letter that `group` makes of a message: the same whenever it does."""
    return outbox.event_id(group, raw.topic, _offset(raw), 0)


def dead_letter_row(
    raw: ConsumerRecord, group: str, reason: str, detail: str, now: datetime, conceal: Conceal | None = None
) -> outbox.Row:
    """The outbox row that carries the message, as it came or as it is concealed, and why, to its dead-letter topic."""
    notes = {
        "noria-id": dead_letter_id(raw, group),
        "noria-reason": reason,
        "noria-detail": redaction.redact(detail)[:2000],
        "noria-topic": raw.topic,
        "noria-partition": str(raw.partition),
        "noria-offset": str(raw.offset),
        "noria-group": group,
        "noria-time": now.isoformat(),
    }
    value = raw.value if conceal is None or raw.value is None else conceal(raw.value)
    if raw.key is None and value is None:  # aiokafka sends no message without both
        value, notes["noria-value"] = b"", "null"
    headers = [*raw.headers, *((name, text.encode("utf-8", "replace")) for name, text in notes.items())]
    return (dead_letter_topic(raw.topic, group), raw.key, value, outbox.pack_headers(headers))
