"""The parked table: messages that wait for another try, and those that wait behind them. Runs no handler."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Table, case, delete, exists, func, literal, or_, select, update

from services.chassis.messaging import outbox
from services.chassis.messaging.messages import ConsumerRecord
from services.chassis.observability.redaction import redact, storable
from services.chassis.storage.tables import Parked

PARKED: Table = getattr(Parked, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
FIRST_SECONDS = 0.5
SHOWN = ("number", "topic", "partition", "offset", "reason", "detail", "attempts", "parked_at", "retry_at")
Lane = tuple[str, bytes | None]
"""(topic, key): messages of one lane keep their order; those without a key have a lane each."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A parked message; the shape of a Kafka record."""

    number: int
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    reason: str
    attempts: int
    parked_at: datetime


def deadline(parked_at: datetime, days: float) -> datetime:
    """When a message that still cannot be handled is parked no longer: then it becomes a dead letter with its reason.

    What this version of the service does not handle has none: no handler of its topic could take it from there.
    """
    return parked_at + timedelta(days=days)


def pause(attempts: int, longest: float) -> timedelta:
    """How long to wait after so many tries: 0.5 s, 1, 2 ... up to `longest` seconds."""
    return timedelta(seconds=min(longest, FIRST_SECONDS * 2 ** min(attempts - 1, 30)))


def row(
    raw: ConsumerRecord, consumer: str, reason: str, detail: str, attempts: int, now: datetime, wait: timedelta
) -> dict[str, Any]:
    """A row of the parked table."""
    detail = redact(detail)
    return {
        "consumer": consumer,
        "topic": raw.topic,
        "partition": raw.partition,
        "offset": raw.offset,
        "key": raw.key,
        "value": raw.value,
        "headers": outbox.pack_headers(raw.headers),
        "reason": reason,
        "detail": storable(detail[:2000]),
        "attempts": attempts,
        "parked_at": now,
        "retry_at": now + wait,
    }


def put(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Parks messages in the caller's transaction."""
    if rows:
        connection.execute(PARKED.insert(), list(rows))


def occupied(connection: Connection, consumer: str, keys: Collection[bytes]) -> set[Lane]:
    """The lanes of these keys in which something is parked."""
    if connection.execute(select(PARKED.c.number).limit(1)).first() is None:
        return set()
    query = select(PARKED.c.topic, PARKED.c.key).where(PARKED.c.consumer == consumer, PARKED.c.key.in_(keys))
    return {(topic, bytes(key)) for topic, key in connection.execute(query.distinct())}


def overdue(now: datetime, longest: float) -> Any:
    """Whether the time of a try has come, or lies further off than any pause: then the clock was set back since."""
    return or_(PARKED.c.retry_at <= now, PARKED.c.retry_at > now + timedelta(seconds=longest))


def _heads(consumer: str, *columns: Any) -> Any:
    earlier = PARKED.alias()
    behind = exists().where(
        earlier.c.consumer == PARKED.c.consumer,
        earlier.c.topic == PARKED.c.topic,
        earlier.c.key == PARKED.c.key,
        earlier.c.number < PARKED.c.number,
    )
    return select(*columns).where(PARKED.c.consumer == consumer, ~behind)


def due(connection: Connection, consumer: str, now: datetime, limit: int, longest: float) -> list[Waiting]:
    """The first messages of their lanes whose time has come; on PostgreSQL locked against other instances."""
    query = _heads(consumer, PARKED).where(overdue(now, longest)).order_by(PARKED.c.number).limit(limit)
    return [_waiting(found) for found in connection.execute(query.with_for_update(skip_locked=True, of=PARKED))]


def followers(connection: Connection, consumer: str, head: Waiting, limit: int) -> list[Waiting]:
    """The messages that wait behind `head`, in order."""
    if head.key is None:
        return []
    same = (PARKED.c.consumer == consumer, PARKED.c.topic == head.topic, PARKED.c.key == head.key)
    query = select(PARKED).where(*same, PARKED.c.number > head.number).order_by(PARKED.c.number).limit(limit)
    return [_waiting(found) for found in connection.execute(query)]


def remove(connection: Connection, numbers: Collection[int]) -> None:
    """Takes messages off the parking."""
    if numbers:
        connection.execute(delete(PARKED).where(PARKED.c.number.in_(numbers)))


def postpone(connection: Connection, number: int, reason: str, detail: str, attempts: int, retry_at: datetime) -> None:
    """Lets a message wait on after another failed try."""
    values = {"reason": reason, "detail": storable(redact(detail)[:2000]), "attempts": attempts, "retry_at": retry_at}
    connection.execute(update(PARKED).where(PARKED.c.number == number).values(**values))


def earliest(connection: Connection, consumer: str, now: datetime, longest: float) -> datetime | None:
    """When the next try is due, at the latest now where it is overdue; None where nothing is parked."""
    kind = PARKED.c.retry_at.type
    moment = case((overdue(now, longest), literal(now, kind)), else_=PARKED.c.retry_at)
    return connection.execute(_heads(consumer, func.min(moment, type_=kind))).scalar()


def listing(connection: Connection, consumer: str, after: int, limit: int) -> list[dict[str, Any]]:
    """The parked messages after a number, oldest first, without their values."""
    columns = [PARKED.c[name] for name in SHOWN]
    query = select(*columns).where(PARKED.c.consumer == consumer, PARKED.c.number > after)
    return [dict(found) for found in connection.execute(query.order_by(PARKED.c.number).limit(limit)).mappings()]


def retry_now(connection: Connection, consumer: str, number: int | None, now: datetime) -> int:
    """Makes the next try of a message, or of all, due now; gives how many."""
    which = PARKED.c.consumer == consumer if number is None else PARKED.c.number == number
    return connection.execute(update(PARKED).where(which).values(retry_at=now)).rowcount


def count(connection: Connection) -> int:
    """How many messages are parked."""
    return connection.execute(select(func.count()).select_from(PARKED)).scalar_one()


def _waiting(found: Row[Any]) -> Waiting:
    return Waiting(
        number=found.number,
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        timestamp=int(found.parked_at.timestamp() * 1000),
        key=None if found.key is None else bytes(found.key),
        value=None if found.value is None else bytes(found.value),
        headers=outbox.unpack_headers(found.headers),
        reason=found.reason,
        attempts=found.attempts,
        parked_at=found.parked_at,
    )
