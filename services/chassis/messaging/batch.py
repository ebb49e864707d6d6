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

from services.chassis.errors import Dead, Park
from services.chassis.jobs.queue import CHANGED
from services.chassis.messaging import inbox, outbox, parking, redrive
from services.chassis.messaging.messages import (
    Conceal,
    ConsumerRecord,
    ParsedMessage,
    Route,
    dead_letter_row,
    read_all,
    refuse_conflict,
)
from services.chassis.observability import traces
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.database import is_database_fault, writing
from services.chassis.storage.store import ChassisStore

LOG: Any = structlog.get_logger("consume")
HANDLER_FAILED = "handler_failed"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""A handler that meets these is no faulty one: its message waits until there is room, however often it is tried."""


@dataclass(frozen=True, slots=True)
class BatchContext:
    """What a consumer group needs to handle messages. `attempts` bounds the tries after unexpected faults."""

    group: str
    source: str
    routes: Mapping[str, Route]
    engine: Engine
    store: Callable[[Session], ChassisStore]
    metrics: Metrics
    attempts: int = 10
    longest_pause: float = 60.0
    park_days: float = 7.0
    conceal: Conceal | None = None


@dataclass(slots=True)
class BatchResult:
    """What a transaction writes at its end, and what happened, by topic and reason."""

    now: datetime
    rows: list[outbox.Row] = field(default_factory=list[outbox.Row])
    parked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    fates: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])

    dead: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    jobs: bool = False

    def note(self, fate: str, topic: str, reason: str = "") -> None:
        """Counts a fate: done, dead, parked or duplicate."""
        self.fates[fate, topic, reason] += 1


def take(context: BatchContext, messages: Sequence[ConsumerRecord]) -> BatchResult:
    """Gives every message its fate and commits.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is away, locked or full; nothing was committed.
    """
    items = [item for raw in messages for item in read_all(raw, context.routes[raw.topic].event)]
    begun = time.perf_counter()
    try:
        result = _transaction(context, items, careful=False)
    except Exception as error:
        if is_database_fault(error):
            raise
        result = _transaction(context, items, careful=True)
    context.metrics.batch_seconds.observe(time.perf_counter() - begun)
    return result


def _transaction(context: BatchContext, items: Sequence[ParsedMessage], *, careful: bool) -> BatchResult:
    result = BatchResult(datetime.now(UTC))
    with writing(context.engine) as connection, Session(connection, expire_on_commit=False) as session:
        redrive.readmit(connection, context.group, items)
        fresh = _take_new(connection, context.group, items, result.now)
        keys = {item.raw.key for item in items if item.raw.key is not None}
        busy = parking.occupied(connection, context.group, keys)
        store = context.store(session)
        if not careful:
            store.prefetch([item.event for item in items if item.event is not None and item.identity in fresh])
        for item in items:
            _settle(context, item, result, fresh, busy, session if careful else None, store)
        store.flush()
        session.flush()
        result.jobs = CHANGED in session.info
        _write(connection, result)
    return result


def _take_new(connection: Connection, group: str, items: Sequence[ParsedMessage], now: datetime) -> set[inbox.Identity]:
    """Marks the messages as taken; gives those that were not. An id with another body is refused, once by its place."""
    bodies = [None if item.malformed else inbox.digest(item.raw.topic, item.raw.value) for item in items]
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


def _write(connection: Connection, result: BatchResult) -> None:
    outbox.put(connection, result.rows, result.now)
    parking.put(connection, result.parked)


def _settle(
    context: BatchContext,
    item: ParsedMessage,
    result: BatchResult,
    fresh: set[inbox.Identity],
    busy: set[parking.Lane],
    session: Session | None,
    store: ChassisStore,
) -> None:
    raw = item.raw
    if item.identity not in fresh:
        result.note("duplicate", raw.topic)
        return
    fresh.remove(item.identity)  # a second one of this batch is a duplicate too
    lane = (raw.topic, raw.key)
    if item.malformed is not None:
        dead_letter(context, raw, result, item.malformed.reason, str(item.malformed))
    elif raw.key is not None and lane in busy:
        park(context, raw, result, "behind", "waits behind an older message of its key", attempts=0)
    elif session is None:
        handle(context, item, result, store)
    elif not _carefully(context, item, result, session) and raw.key is not None:
        busy.add(lane)


def handle(context: BatchContext, item: ParsedMessage, result: BatchResult, store: ChassisStore) -> None:
    """Runs the handler of the message's event and keeps the events it returns."""
    event, meta = item.event, item.meta
    assert event is not None and meta is not None  # noqa: S101, PT018 - a malformed message never gets here
    topic = item.raw.topic
    handler = context.routes[topic].handler
    if traces.recording():
        with traces.handling(topic, context.group, meta) as span:
            events, traceparent = list(handler(event, meta, store)), span.traceparent
    else:  # the same without a context manager a message
        traceparent = traces.next_traceparent(meta.traceparent)
        token = traces.enter(traceparent)
        try:
            events = list(handler(event, meta, store))
        finally:
            traces.leave(token)
    if events:
        cause = (meta.source, meta.id)
        result.rows += outbox.emitted(
            events, group=context.group, source=context.source, cause=cause, now=result.now, traceparent=traceparent
        )
    result.note("done", topic)


def _carefully(context: BatchContext, item: ParsedMessage, result: BatchResult, session: Session) -> bool:
    """Whether the message is settled for good; False where it was parked."""
    try:
        attempt(context, item, result, session)
    except Dead as error:
        give_up(context, item, result, session.connection(), error.reason, str(error))
    except Park as error:
        park(context, item.raw, result, error.reason, str(error), attempts=1)
        return False
    return True


def attempt(context: BatchContext, item: ParsedMessage, result: BatchResult, session: Session) -> None:
    """Runs the handler in a savepoint, with a store of its own: one that held back what is undone would write it later.

    Raises:
        Dead, Park: as the handler said; Dead with `unstorable` where the database takes no such value;
            Park with the reason `handler_failed` after an unexpected fault.
        sqlalchemy.exc.DBAPIError: the database is away.
    """
    own = BatchResult(result.now)
    try:
        with session.begin_nested():
            store = context.store(session)
            handle(context, item, own, store)
            store.flush()
            session.flush()
        result.rows += own.rows
        result.fates += own.fates
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
        LOG.exception("handler failed", trace_id=traces.trace_id(item.meta and item.meta.traceparent), **where)
        raise Park(HANDLER_FAILED, f"{type(error).__name__}: {error}"[:1000]) from error


def give_up(
    context: BatchContext, item: ParsedMessage, result: BatchResult, connection: Connection, reason: str, detail: str
) -> None:
    """Sends a message that its handler did not take to its dead-letter topic, so that a redrive takes effect."""
    dead_letter(context, item.raw, result, reason, detail)
    if item.malformed is None:
        redrive.died(connection, context.group, item.raw, item.identity, result.now)


def dead_letter(context: BatchContext, raw: ConsumerRecord, result: BatchResult, reason: str, detail: str) -> None:
    """Sends the message to its dead-letter topic."""
    result.rows.append(dead_letter_row(raw, context.group, reason, detail, result.now, context.conceal))
    result.note("dead", raw.topic, reason)
    place = {"topic": raw.topic, "partition": raw.partition, "offset": raw.offset}
    result.dead.append({"reason": reason, "detail": detail[:300], **place})


def park(
    context: BatchContext, raw: ConsumerRecord, result: BatchResult, reason: str, detail: str, *, attempts: int
) -> None:
    """Lets the message wait for its next try, or behind another (attempts 0)."""
    wait = parking.pause(attempts, context.longest_pause) if attempts else parking.pause(1, 0)
    result.parked.append(parking.row(raw, context.group, reason, detail, attempts, result.now, wait))
    result.note("parked", raw.topic, reason)


def record(result: BatchResult, metrics: Metrics) -> None:
    """Adds a committed transaction's fates to the metrics and the log."""
    for note in result.dead:
        LOG.warning("dead letter", **note)
    for (fate, topic, reason), count in result.fates.items():
        if fate == "done":
            metrics.done.labels(topic).inc(count)
        elif fate == "duplicate":
            metrics.duplicates.labels(topic).inc(count)
        elif fate == "dead":
            metrics.dead.labels(topic, reason).inc(count)
        else:
            metrics.parked.labels(topic, reason).inc(count)
