"""How long things have waited or stood still, for the metrics: parked messages, jobs, partitions. Decides nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiokafka import TopicPartition
from sqlalchemy import Connection, Table, func, literal_column, select

from services.chassis.messaging.parking import PARKED
from services.chassis.storage.tables import OPEN_JOB, JobRow

JOB: Table = getattr(JobRow, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
LOOK_SECONDS = 5.0
"""Between two looks at the partitions; they read memory alone."""


@dataclass(slots=True)
class JobAges:
    """The jobs of a kind that are not over. Seconds, 0 where there is none of the sort."""

    queued: float = 0.0
    heartbeat: float = 0.0
    attempts: int = 0


def parked_age(connection: Connection, now: datetime) -> float:
    """Seconds since the oldest parked message was parked."""
    oldest = connection.execute(select(func.min(PARKED.c.parked_at, type_=PARKED.c.parked_at.type))).scalar()
    return _age(oldest, now)


def job_ages(connection: Connection, now: datetime, lease_seconds: float) -> dict[str, JobAges]:
    """By kind: age of the oldest queued job, longest time without a heartbeat of a running one, most tries of one."""
    # A job that waits for its next try does not wait for a worker.
    created, until = func.coalesce(JOB.c.retry_at, JOB.c.created_at, type_=JOB.c.created_at.type), JOB.c.lease_until
    columns = (
        JOB.c.kind,
        JOB.c.status,
        func.min(created, type_=created.type),
        func.min(until, type_=until.type),
        func.max(JOB.c.attempts),
    )
    query = select(*columns).where(literal_column(OPEN_JOB)).group_by(JOB.c.status, JOB.c.kind)
    found: dict[str, JobAges] = {}
    for kind, status, oldest, lease, attempts in connection.execute(query):
        ages = found.setdefault(kind, JobAges())
        ages.attempts = max(ages.attempts, attempts)
        if status == "queued":
            ages.queued = _age(oldest, now)
        elif lease is not None:
            ages.heartbeat = _age(lease - timedelta(seconds=lease_seconds), now)
    return found


def _age(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


class ConsumptionStalls:
    """Since when places with something before them have not moved. Knows what it was shown, not why."""

    def __init__(self) -> None:
        self._seen: dict[TopicPartition, tuple[int, float]] = {}

    def look(self, places: Mapping[TopicPartition, tuple[int, int]], now: float) -> None:
        """Takes note of each place's (position, end) at the monotonic time `now`; forgets the places not shown."""
        self._seen = {
            place: (position, self._since(place, position, now))
            for place, (position, end) in places.items()
            if position < end
        }

    def _since(self, place: TopicPartition, position: int, now: float) -> float:
        before = self._seen.get(place)
        return before[1] if before is not None and before[0] == position else now

    def seconds(self, now: float) -> dict[TopicPartition, float]:
        """How long each place that has something before it has stood still."""
        return {place: now - since for place, (_, since) in self._seen.items()}


async def keep_looking(
    stalls: ConsumptionStalls, positions: Callable[[], Awaitable[Mapping[TopicPartition, tuple[int, int]]]]
) -> None:
    """Shows `stillness` the positions until cancelled."""
    while True:
        stalls.look(await positions(), time.monotonic())
        await asyncio.sleep(LOOK_SECONDS)
