"""A batch of messages in one SQL transaction: inbox, handlers, outbox, parked and dead letters. Knows no broker.

The batch first runs without savepoints. When a message of it raises, everything is rolled back and done again with a
savepoint for each message: the same effect, and the usual batch pays for no savepoint.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError
from sqlmodel import Session

from services.chassis import inbox, outbox, parking, redrive, telemetry
from services.chassis.database import is_database_fault, writing
from services.chassis.errors import Dead, Park
from services.chassis.jobs import CHANGED
from services.chassis.messages import Item, Raw, Route, dead_letter, read, refuse_conflict
from services.chassis.metrics import Metrics

LOG: Any = structlog.get_logger("consume")
HANDLER_FAILED = "handler_failed"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""A handler that meets these is no faulty one: its message waits until there is room, however often it is tried."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What a consumer group needs to handle messages. `attempts` bounds the tries after unexpected faults."""

    group: str
    source: str
    routes: Mapping[str, Route]
    engine: Engine
    store: Callable[[Session], Any]
    metrics: Metrics
    attempts: int = 10
    longest_pause: float = 60.0


@dataclass(slots=True)
class Sheet:
    """What a transaction writes at its end, and what happened, by topic and reason."""

    now: datetime
    rows: list[outbox.Row] = field(default_factory=list[outbox.Row])
    parked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    fates: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])

    buried: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    jobs: bool = False

    def note(self, fate: str, topic: str, reason: str = "") -> None:
        """Counts a fate: done, dead, parked or duplicate."""
        self.fates[fate, topic, reason] += 1


def take(intake: Intake, messages: Sequence[Raw]) -> Sheet:
    """Gives every message its fate and commits.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is away, locked or full; nothing was committed.
    """
    items = [read(raw, intake.routes[raw.topic].event) for raw in messages]
    begun = time.perf_counter()
    try:
        sheet = _transaction(intake, items, careful=False)
    except Exception as error:
        if is_database_fault(error):
            raise
        sheet = _transaction(intake, items, careful=True)
    intake.metrics.batch_seconds.observe(time.perf_counter() - begun)
    return sheet


def _transaction(intake: Intake, items: Sequence[Item], *, careful: bool) -> Sheet:
    sheet = Sheet(datetime.now(UTC))
    with writing(intake.engine) as connection, Session(connection, expire_on_commit=False) as session:
        redrive.readmit(connection, intake.group, items)
        fresh = _take_new(connection, intake.group, items, sheet.now)
        keys = {item.raw.key for item in items if item.raw.key is not None}
        busy = parking.occupied(connection, intake.group, keys)
        store = intake.store(session)
        for item in items:
            _settle(intake, item, sheet, fresh, busy, session if careful else None, store)
        session.flush()
        sheet.jobs = CHANGED in session.info
        _write(connection, sheet)
    return sheet


def _take_new(connection: Connection, group: str, items: Sequence[Item], now: datetime) -> set[inbox.Identity]:
    """Marks the messages as taken; gives those that were not. An id with another body is refused, once by its place."""
    bodies = [inbox.digest(item.raw.topic, item.raw.value) for item in items]
    first: dict[inbox.Identity, int | None] = {}
    for item, body in zip(items, bodies, strict=True):
        first.setdefault(item.identity, body)
    fresh = inbox.take(connection, group, first, now)
    if len(fresh) == len(items):
        return fresh
    first |= dict.fromkeys(first.keys() - fresh) | inbox.digests(connection, group, first.keys() - fresh)
    other = [(i, b) for i, b in zip(items, bodies, strict=True) if inbox.conflict(first[i.identity], b)]
    if not other:
        return fresh
    for item, _ in other:
        refuse_conflict(item)
    return fresh | inbox.take(connection, group, {item.identity: body for item, body in other}, now)


def _write(connection: Connection, sheet: Sheet) -> None:
    outbox.put(connection, sheet.rows, sheet.now)
    parking.put(connection, sheet.parked)


def _settle(
    intake: Intake,
    item: Item,
    sheet: Sheet,
    fresh: set[inbox.Identity],
    busy: set[parking.Lane],
    session: Session | None,
    store: Any,
) -> None:
    raw = item.raw
    if item.identity not in fresh:
        sheet.note("duplicate", raw.topic)
        return
    fresh.remove(item.identity)  # a second one of this batch is a duplicate too
    lane = (raw.topic, raw.key)
    if item.malformed is not None:
        bury(intake, raw, sheet, item.malformed.reason, str(item.malformed))
    elif raw.key is not None and lane in busy:
        park(intake, raw, sheet, "behind", "waits behind an older message of its key", attempts=0)
    elif session is None:
        handle(intake, item, sheet, store)
    elif not _carefully(intake, item, sheet, session, store) and raw.key is not None:
        busy.add(lane)


def handle(intake: Intake, item: Item, sheet: Sheet, store: Any) -> None:
    """Runs the handler of the message's event and keeps the events it returns."""
    event, meta = item.event, item.meta
    assert event is not None and meta is not None  # noqa: S101, PT018 - a malformed message never gets here
    topic = item.raw.topic
    handler = intake.routes[topic].handler
    if telemetry.recording():
        with telemetry.handling(topic, intake.group, meta) as traceparent:
            events = list(handler(event, meta, store))
    else:
        events, traceparent = list(handler(event, meta, store)), telemetry.next_traceparent(meta.traceparent)
    if events:
        cause = (meta.source, meta.id)
        sheet.rows += outbox.emitted(
            events, group=intake.group, source=intake.source, cause=cause, now=sheet.now, traceparent=traceparent
        )
    sheet.note("done", topic)


def _carefully(intake: Intake, item: Item, sheet: Sheet, session: Session, store: Any) -> bool:
    """Whether the message is settled for good; False where it was parked."""
    try:
        attempt(intake, item, sheet, session, store)
    except Dead as error:
        give_up(intake, item, sheet, session.connection(), error.reason, str(error))
    except Park as error:
        park(intake, item.raw, sheet, error.reason, str(error), attempts=1)
        return False
    return True


def attempt(intake: Intake, item: Item, sheet: Sheet, session: Session, store: Any) -> None:
    """Runs the handler in a savepoint.

    Raises:
        Dead, Park: as the handler said; Dead with `unstorable` where the database takes no such value;
            Park with the reason `handler_failed` after an unexpected fault.
        sqlalchemy.exc.DBAPIError: the database is away.
    """
    own = Sheet(sheet.now)
    try:
        with session.begin_nested():
            handle(intake, item, own, store)
            session.flush()
        sheet.rows += own.rows
        sheet.fates += own.fates
    except (Dead, Park):
        raise
    except DataError as error:  # a NUL on PostgreSQL, a number out of range: no later try can store it
        raise Dead("unstorable", str(error.orig)[:1000]) from error
    except Exception as error:
        if is_database_fault(error):
            raise
        where = {"topic": item.raw.topic, "ce_id": item.identity[1], "ce_source": item.identity[0]}
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise Park("disk_full", f"{type(error).__name__}: {error}"[:1000]) from error
        error.__context__ = None  # the same fault in the pass without savepoints
        LOG.exception("handler failed", trace_id=telemetry.trace_id(item.meta and item.meta.traceparent), **where)
        raise Park(HANDLER_FAILED, f"{type(error).__name__}: {error}"[:1000]) from error


def give_up(intake: Intake, item: Item, sheet: Sheet, connection: Connection, reason: str, detail: str) -> None:
    """Sends a message that its handler did not take to its dead-letter topic, so that a redrive takes effect."""
    bury(intake, item.raw, sheet, reason, detail)
    if item.malformed is None:
        redrive.died(connection, intake.group, item.raw, item.identity, sheet.now)


def bury(intake: Intake, raw: Raw, sheet: Sheet, reason: str, detail: str) -> None:
    """Sends the message to its dead-letter topic."""
    sheet.rows.append(dead_letter(raw, intake.group, reason, detail, sheet.now))
    sheet.note("dead", raw.topic, reason)
    place = {"topic": raw.topic, "partition": raw.partition, "offset": raw.offset}
    sheet.buried.append({"reason": reason, "detail": detail[:300], **place})


def park(intake: Intake, raw: Raw, sheet: Sheet, reason: str, detail: str, *, attempts: int) -> None:
    """Lets the message wait for its next try, or behind another (attempts 0)."""
    wait = parking.pause(attempts, intake.longest_pause) if attempts else parking.pause(1, 0)
    sheet.parked.append(parking.row(raw, intake.group, reason, detail, attempts, sheet.now, wait))
    sheet.note("parked", raw.topic, reason)


def record(sheet: Sheet, metrics: Metrics) -> None:
    """Adds a committed transaction's fates to the figures and the log."""
    for note in sheet.buried:
        LOG.warning("dead letter", **note)
    for (fate, topic, reason), count in sheet.fates.items():
        if fate == "done":
            metrics.done.labels(topic).inc(count)
        elif fate == "duplicate":
            metrics.duplicates.labels(topic).inc(count)
        elif fate == "dead":
            metrics.dead.labels(topic, reason).inc(count)
        else:
            metrics.parked.labels(topic, reason).inc(count)
