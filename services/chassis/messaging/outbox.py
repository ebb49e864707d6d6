"""The outbox table: messages to publish, written in the transaction of their cause, and the relay to Kafka.

At least once on the wire: a message keeps its ce_id, so whoever receives it twice can tell. Knows no FastStream.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha1

from pydantic_core import from_json, to_json
from sqlalchemy import Connection, Table

from contracts.envelope import Event, Meta, attributes, encode
from services.chassis.storage.bulk.insert import insert, moment
from services.chassis.storage.tables import Outbox

NAMESPACE = uuid.UUID("6f1d1ae4-43a8-5b0e-9a5e-0f5f0c6a7d11")
_NAMESPACE = NAMESPACE.bytes
OUTBOX: Table = getattr(Outbox, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
Headers = Sequence[tuple[str, bytes | None]]
COLUMNS = ("topic", "key", "value", "headers", "status", "created_at")
Row = tuple[str, bytes | None, bytes | None, str]
"""(topic, key, value, packed headers)."""


def event_id(group: str, source: str, cause: str, index: int) -> str:
    """The ce_id of the index-th event that `group` emits because of (source, cause): the same at every redelivery.

    A UUID of version 5 (RFC 9562), made without the slow UUID object. Its name is unambiguous, for texts without a NUL,
    which no attribute holds: the first two parts hold no separator, or begin with a NUL and their lengths.
    """
    name = f"{group}|{source}|{cause}|{index}"
    if "|" in source or "|" in group:
        name = f"\x00{len(group)}|{len(source)}|{name}"
    digest = sha1(_NAMESPACE + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def pack_headers(headers: Headers) -> str:
    """Headers as JSON text; bytes stand as Latin-1, which gives every byte a character."""
    return to_json([(name, None if value is None else value.decode("latin-1")) for name, value in headers]).decode()


def unpack_headers(text: str) -> list[tuple[str, bytes | None]]:
    """What `pack_headers` packed."""
    return [(name, None if value is None else value.encode("latin-1")) for name, value in from_json(text)]


def event_row(event: Event, meta: Meta) -> Row:
    """A row that publishes an event."""
    key, value, headers = encode(event, meta)
    return (type(event).TOPIC, key, value, pack_headers(headers))


def _latin(text: str) -> str:
    return text.encode().decode("latin-1")


def put(connection: Connection, rows: Sequence[Row], now: datetime) -> None:
    """Adds rows in the caller's transaction."""
    when = moment(connection, now)
    insert(connection, OUTBOX, COLUMNS, [(*row, "pending", when) for row in rows])


def emitted(
    events: Sequence[Event],
    *,
    group: str,
    source: str,
    cause: tuple[str, str],
    now: datetime,
    traceparent: str | None = None,
) -> list[Row]:
    """Rows for the events caused by (ce_source, ce_id) `cause`; they carry ce_causationid.

    Versions of one fact that stand beside each other, as x.v1 and x.v2, bear one ce_id: a consumer that moves from one
    topic to the other recognises what it took (docs/schema-evolution.md).

    The packed headers are those of `event_row`, put together from text that a batch shares: this is the hot path.
    """
    tail = f',["ce_causationid",{_quoted(cause[1])}]]'
    if traceparent is not None:
        tail = f',["traceparent","{traceparent}"]{tail}'
    return [
        (
            type(event).TOPIC,
            event.key.encode(),
            event.to_bytes(),
            f'[["ce_specversion","1.0"],["ce_id","{event_id(group, *cause, index)}"],{_middle(type(event), source, now)}{tail}',
        )
        for index, event in _indexed(events)
    ]


def _indexed(events: Sequence[Event]) -> Iterable[tuple[int, Event]]:
    return enumerate(events) if len(events) == 1 else _indexed_by_fact(events)


def _indexed_by_fact(events: Iterable[Event]) -> Iterator[tuple[int, Event]]:
    index, entity, versions = -1, "", tuple[str, ...]()
    for event in events:
        name, version = _entity(type(event).TOPIC)
        if name != entity or version in versions:
            index, entity, versions = index + 1, name, ()
        versions = (*versions, version)
        yield index, event


@lru_cache(maxsize=256)
def _entity(topic: str) -> tuple[str, str]:
    name, _, version = topic.rpartition(".v")
    return name, version


@lru_cache(maxsize=64)
def _middle(event: type[Event], source: str, now: datetime) -> str:
    meta = Meta(id="", source=source, type=event.ce_type(), time=now)
    return ",".join(f"[{_quoted(name)},{_quoted(text)}]" for name, text in list(attributes(meta).items())[2:])


def _quoted(text: str) -> str:
    return to_json(text if text.isascii() else _latin(text)).decode()
