"""The running parts of a service and their order: database, topics, consumer, relay, retries, jobs, timers."""

import asyncio
import contextlib
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog
from sqlmodel import Session

from services.chassis import memory
from services.chassis.context import Context
from services.chassis.http.health import Check, readiness
from services.chassis.jobs import leases
from services.chassis.jobs.failures import policy_of
from services.chassis.jobs.queue import JobQueue
from services.chassis.jobs.workers import Workers
from services.chassis.messaging import parking
from services.chassis.messaging.batch import BatchContext, BatchResult
from services.chassis.messaging.consume import Consumer
from services.chassis.messaging.kafka import topics
from services.chassis.messaging.kafka.security import security
from services.chassis.messaging.messages import routes
from services.chassis.messaging.relay import Relay, backlog
from services.chassis.messaging.retry import keep_retrying
from services.chassis.observability import age_metrics
from services.chassis.observability.metrics import Metrics
from services.chassis.retention import cached, pruning
from services.chassis.service import Service, Timer
from services.chassis.storage import database
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.migration import migrate_aside

LOG: Any = structlog.get_logger("service")
OLD_SECONDS = 60.0


class Runtime:
    """A service while it runs. `start` may wait long; `stop` ends in seconds, whatever was reached."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self.service = service
        self.metrics = Metrics(service.name)
        self.owner = leases.new_owner()
        self.engine = database.open_engine(settings)
        self.context: Context[Any] = Context(settings, self.engine, service.store, open_store(settings), self.metrics)
        self._tasks: list[asyncio.Task[Any]] = []
        self._consumer: Consumer | None = None
        self._relay: Relay | None = None
        self._workers: Workers | None = None
        self._stalls = age_metrics.ConsumptionStalls()
        self._waits_for = "database"
        self._refusal = ""
        self._security = security(settings)
        topics.refuse_short_inbox(
            (event.TOPIC for event in service.handlers),
            timedelta(days=settings.inbox_days),
            settings.topic_retention_days,
        )
        self.failed = False
        self.parked = asyncio.Event()

    async def start(self) -> None:
        """Starts every part once what it needs is there."""
        settings = self.service.settings
        await self._migrate()
        self._workers = Workers(self.context, self.service.jobs, self.owner)
        self._relay = Relay(self.engine, settings.kafka_bootstrap, self.owner, self.metrics, self._security)
        self.context.connect(self._relay.filled.set, self._workers.wake)
        self._workers.start()
        self._spawn(*(self._tick(timer) for timer in self.service.timers))
        rules = (*pruning.horizons(settings), *self.service.horizons)
        self._spawn(pruning.keep_pruning(self.engine, rules, self.metrics, settings.prune_seconds))
        self._spawn(cached.keep_forgetting(self.context.artifacts, settings.cache_days))
        self._spawn(memory.keep_collecting_garbage(), *(task(self.context) for task in self.service.background))
        self._waits_for = "kafka"
        wanted = topics.topics_of(self.service.name, settings.topic_retention_days)
        await topics.wait_for_topics(settings.kafka_bootstrap, wanted, self._security, self._refused)
        self._spawn(self._relay.run())
        if self.service.handlers:
            await self._consume()
        self._waits_for = ""
        LOG.info("service ready to work", topics=sorted(event.TOPIC for event in self.service.handlers))

    def _conceal(self, value: bytes) -> bytes:
        conceal = self.service.conceal
        return self.context.read_now(lambda store: conceal(store, value)) if conceal else value

    async def _consume(self) -> None:
        settings, context = self.service.settings, self.context
        batch = BatchContext(
            group=settings.group,
            source=settings.source,
            routes=routes(self.service.handlers),
            engine=self.engine,
            store=self.service.store,
            metrics=self.metrics,
            attempts=settings.handler_attempts,
            longest_pause=settings.park_seconds,
            park_days=settings.park_days,
            conceal=self._conceal if self.service.conceal else None,
        )

        def committed(result: BatchResult) -> None:
            context.wake(jobs=result.jobs)
            if result.parked:
                self.parked.set()

        self._spawn(keep_retrying(batch, self.parked, lambda jobs: context.wake(jobs=jobs)))
        instance = instance_name(settings.group, settings.port, batch.routes) if settings.port else None
        self._consumer = Consumer(
            batch, settings.kafka_bootstrap, settings.batch_records, committed, instance, self._security
        )
        await self._consumer.start()
        self._spawn(age_metrics.keep_looking(self._stalls, self._consumer.positions))

    async def _migrate(self) -> None:
        folders = [self.service.migrations] if self.service.migrations else []
        waited = 0
        while True:
            try:
                await asyncio.to_thread(migrate_aside, self.engine, self.service.name, *folders)
                await asyncio.to_thread(self._reclaim)
            except Exception as error:
                if not database.is_database_fault(error):
                    raise
                if waited % 10 == 0:
                    LOG.warning("waiting for the database", waited_seconds=waited, detail=str(error)[:300])
                waited += 1
                await asyncio.sleep(1)
            else:
                return

    def _reclaim(self) -> None:
        with database.writing(self.engine) as connection, Session(connection) as session:
            if freed := JobQueue(session).reclaim(
                leases.vanished, database.clock(connection), policy_of(self.service.settings)
            ):
                LOG.info("jobs of an ended process will resume", jobs=freed)

    def _spawn(self, *coroutines: Coroutine[Any, Any, Any]) -> None:
        for each in coroutines:
            task = asyncio.create_task(each)
            task.add_done_callback(self.report)
            self._tasks.append(task)

    async def _tick(self, timer: Timer) -> None:
        while True:
            await asyncio.sleep(timer.every)
            try:
                await self.context.tick(timer.run, datetime.now(UTC))
            except Exception as error:
                database.log_failure(LOG, "timer failed", error, timer=timer.name)

    def report(self, task: asyncio.Task[None]) -> None:
        """Ends the process where a start or a background task failed for good; a process manager starts it anew."""
        if not task.cancelled() and task.exception() is not None:
            self.failed = True
            LOG.error("the service must end", exc_info=task.exception())
            signal.raise_signal(signal.SIGTERM)

    async def stop(self) -> None:
        """Finishes the batch under way, gives jobs and leases back, stops every part."""
        parts: list[Awaitable[Any]] = []
        if self._consumer is not None:
            parts.append(self._consumer.stop())
        if self._workers is not None:
            parts.append(self._workers.stop())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(9.0):
                await asyncio.gather(*parts, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            await asyncio.to_thread(database.in_transaction, self.engine, lambda c: leases.release(c, self.owner))
        self.engine.dispose()

    def _refused(self, why: str) -> None:
        self._refusal = why

    @property
    def migrated(self) -> bool:
        """Whether the tables are there."""
        return self._waits_for != "database"

    def checks(self) -> Mapping[str, Check]:
        """The readiness checks by name."""
        return {"database": self._database, "kafka": self._kafka, "outbox": self._outbox, **self.service.ready}

    async def _database(self) -> str | None:
        await asyncio.to_thread(database.check, self.engine)
        return None if self.migrated else "waiting to migrate"

    async def _kafka(self) -> str | None:
        if self._waits_for:
            return f"waiting for {self._waits_for}" + (f": {self._refusal}" if self._refusal else "")
        assert self._relay is not None  # noqa: S101 - it is there before anything waits for Kafka
        return (self._consumer.trouble if self._consumer else None) or await self._relay.ask()

    async def _outbox(self) -> str | None:
        if not self.migrated:
            return "waiting for the database"
        state = await asyncio.to_thread(backlog, self.engine)
        if state.waiting and state.age > OLD_SECONDS:
            return f"{state.waiting} messages wait for Kafka, the oldest for {state.age:.0f} s"
        return None

    async def lag(self) -> dict[str, int]:
        """Messages not taken yet by topic."""
        return await self._consumer.lag() if self._consumer else {}

    async def refresh(self) -> None:
        """Brings the gauges up to date. Where the database is away its gauges keep what they were; `ready` tells."""
        report = await readiness(self.service.name, self.checks(), self.lag)
        for name, check in report["checks"].items():
            self.metrics.ready.labels(name).set(check["ok"])
        self.metrics.disk_free.set(free_bytes(self.service.settings.home))
        self._set_consumption(report["lag"])
        if self._workers is not None:
            for kind, age in self._workers.progress_ages().items():
                self.metrics.job_progress.labels(kind).set(age)
        if self.migrated:
            await self._refresh_stored()

    def _set_consumption(self, lag: Mapping[str, int]) -> None:
        self.metrics.group_member.set(self._consumer.joined if self._consumer else not self.service.handlers)
        still = dict.fromkeys(lag, 0.0)
        for place, seconds in self._stalls.seconds(time.monotonic()).items():
            still[place.topic] = max(still.get(place.topic, 0.0), seconds)
        for topic, count in lag.items():
            self.metrics.lag.labels(topic).set(count)
            self.metrics.still.labels(topic).set(still[topic])

    async def _refresh_stored(self) -> None:
        try:
            state, parked, age, jobs, job_ages = await asyncio.to_thread(self._stored_counts)
        except Exception as error:
            if not database.is_database_fault(error):
                raise
            return
        self.metrics.outbox_waiting.set(state.waiting)
        self.metrics.outbox_failed.set(state.failed)
        self.metrics.outbox_age.set(state.age)
        self.metrics.parked_waiting.set(parked)
        self.metrics.parked_age.set(age)
        left = self.service.settings.park_days * 86400 - age
        self.metrics.parked_deadline.set(left if parked else float("inf"))
        self.metrics.jobs.clear()  # of a kind's last job to leave a status nothing else would tell
        for (kind, status), count in jobs.items():
            self.metrics.jobs.labels(kind, status).set(count)
        for each in self.service.jobs:
            of_kind = job_ages.get(each.kind, age_metrics.JobAges())
            self.metrics.job_queued.labels(each.kind).set(of_kind.queued)
            self.metrics.job_heartbeat.labels(each.kind).set(of_kind.heartbeat)
            self.metrics.job_attempts.labels(each.kind).set(of_kind.attempts)

    def _stored_counts(self) -> tuple[Any, int, float, dict[tuple[str, str], int], dict[str, age_metrics.JobAges]]:
        now, seconds = datetime.now(UTC), self.service.settings.lease_seconds
        with database.reading(self.engine) as connection, Session(connection) as session:
            waiting, age = parking.count(connection), age_metrics.parked_age(connection, now)
            counts, of_jobs = JobQueue(session).counts(), age_metrics.job_ages(connection, now, seconds)
            return backlog(self.engine), waiting, age, counts, of_jobs


def instance_name(group: str, port: int, topics: Iterable[str]) -> str:
    """A member's name in its group, the same after a restart.

    It depends on the topics: to a member that comes back under its name Kafka gives its old partitions without looking
    at what it subscribes to now, so that a release with one more handler would hear nothing of its topic.
    """
    digest = sha256("\n".join(sorted(topics)).encode()).hexdigest()[:8]
    return f"{group}-{socket.gethostname()}-{port}-{digest}"


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder that need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
