"""Deletes the rows of a table that are older than its horizon, oldest first, in small transactions of their own.

The work takes a fifth of the time at most, so that consumption goes on beside it: each batch is followed by a rest of four
times its length. Where rows stand far beyond their horizon it takes half of the time, or a busy stream would outrun it.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Column, ColumnElement, Connection, Engine, Table, delete, func, select, tuple_

from services.chassis.observability.metrics import Metrics
from services.chassis.settings import Settings
from services.chassis.storage import database
from services.chassis.storage.tables import Inbox, JobRow

LOG: Any = structlog.get_logger("pruning")
INBOX: Table = getattr(Inbox, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
JOB: Table = getattr(JobRow, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
ROWS = 1000
"""Of a batch: some milliseconds of SQLite's one writer."""
REST, REST_BEHIND = 4.0, 1.0
BEHIND = 0.1
"""Of the horizon: so far beyond it the oldest row stands where pruning is behind."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """The rows of `table` whose `moment` is older than `keep` are deleted, where `condition` holds for them.

    An index begins with `moment`, so that the oldest are found without reading the others; a row whose moment is null stays.
    """

    table: Table
    moment: Column[Any]
    keep: timedelta
    condition: ColumnElement[bool] | None = None


def horizons(settings: Settings) -> tuple[Horizon, ...]:
    """The chassis' own: messages taken, and jobs that are over."""
    return (
        Horizon(INBOX, INBOX.c.taken_at, timedelta(days=settings.inbox_days)),
        Horizon(JOB, JOB.c.finished_at, timedelta(days=settings.job_days)),
    )


def prune(connection: Connection, horizon: Horizon, now: datetime, limit: int = ROWS) -> int:
    """Deletes up to `limit` rows that are too old, the oldest; how many they were."""
    key = tuple_(*horizon.table.primary_key.columns)
    oldest = select(*horizon.table.primary_key.columns).where(horizon.moment < now - horizon.keep)
    if horizon.condition is not None:
        oldest = oldest.where(horizon.condition)
    # Locked rows are another instance's affair; skipping them, two instances never wait for each other.
    oldest = oldest.order_by(horizon.moment).limit(limit).with_for_update(skip_locked=True)
    return connection.execute(delete(horizon.table).where(key.in_(oldest))).rowcount


def overdue(connection: Connection, horizon: Horizon, now: datetime) -> float:
    """Seconds that the oldest row has stood beyond the horizon, 0 where none does."""
    oldest = select(func.min(horizon.moment, type_=horizon.moment.type))
    if horizon.condition is not None:
        oldest = oldest.where(horizon.condition)
    found = connection.execute(oldest).scalar()
    return max(0.0, (now - horizon.keep - found).total_seconds()) if found else 0.0


async def keep_pruning(engine: Engine, rules: Sequence[Horizon], metrics: Metrics, every: float) -> None:
    """Prunes every so many seconds until cancelled."""
    while True:
        for rule in rules:
            try:
                await _prune_all(engine, rule, metrics)
            except Exception as error:
                database.log_failure(LOG, "old rows could not be deleted", error, table=rule.table.name)
        await asyncio.sleep(every)


async def _prune_all(engine: Engine, rule: Horizon, metrics: Metrics) -> None:
    total = 0
    while True:
        count, seconds, late = await asyncio.to_thread(database.in_transaction, engine, lambda c: _batch(c, rule))
        metrics.pruned.labels(rule.table.name).inc(count)
        metrics.prune_overdue.labels(rule.table.name).set(late)
        total += count
        if count < ROWS:
            break
        await asyncio.sleep(rest(seconds, late, rule.keep))
    if total:
        LOG.info("old rows deleted", table=rule.table.name, rows=total, older_than_days=rule.keep / timedelta(days=1))


def _batch(connection: Connection, rule: Horizon) -> tuple[int, float, float]:
    """(rows deleted, seconds that took, seconds the oldest left stands beyond the horizon).

    The wait for the transaction does not count: on a busy SQLite it is many times the work.
    """
    begun, now = time.monotonic(), database.clock(connection)
    count = prune(connection, rule, now)
    return count, time.monotonic() - begun, overdue(connection, rule, now)


def rest(seconds: float, late: float, keep: timedelta) -> float:
    """Seconds to rest after a batch that took so many, with rows that are so late."""
    return seconds * (REST_BEHIND if late > BEHIND * keep.total_seconds() else REST)
