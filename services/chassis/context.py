"""What routers, background tasks and timers get of a running service: its store in transactions, artifacts, log."""

import asyncio
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from contracts.envelope import Event
from services.chassis.jobs.queue import CHANGED
from services.chassis.messaging import outbox
from services.chassis.observability import traces
from services.chassis.observability.metrics import Metrics
from services.chassis.settings import Settings
from services.chassis.storage.artifacts import ArtifactStore
from services.chassis.storage.database import reading, writing
from services.chassis.storage.store import ChassisStore

S = TypeVar("S")
T = TypeVar("T")


class Context(Generic[S]):
    """A running service as its own parts see it."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Callable[[Session], S],
        artifacts: ArtifactStore,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.store = store
        self.artifacts = artifacts
        self.metrics = metrics
        self.log: Any = structlog.get_logger(settings.SERVICE)
        self._wake_relay: Callable[[], None] = _nothing
        self._wake_workers: Callable[[], None] = _nothing

    def connect(self, wake_relay: Callable[[], None], wake_workers: Callable[[], None]) -> None:
        """Names what wakes the relay and the workers."""
        self._wake_relay, self._wake_workers = wake_relay, wake_workers

    async def read(self, fn: Callable[[S], T]) -> T:
        """The result of `fn(store)` in a reading transaction, in a worker thread."""
        return await asyncio.to_thread(self.read_now, fn)

    async def transact(
        self, fn: Callable[[S], tuple[T, Iterable[Event]]], cause: str | None = None, at: datetime | None = None
    ) -> T:
        """The result of `fn(store)` in one transaction with the events it returns, which then go to Kafka.

        `cause` names the transaction: the ids of its events derive from it, so that a repeated one repeats its ids.
        `at` is its moment where that is kept too: the events carry it, so that a replay finds the same one.
        """
        try:
            result, jobs = await asyncio.to_thread(self._transact, fn, cause, at)
        except IntegrityError:  # the same change came at the same moment; made by now, it can be seen
            result, jobs = await asyncio.to_thread(self._transact, fn, cause, at)
        self.wake(jobs=jobs)
        return result

    def read_now(self, fn: Callable[[S], T]) -> T:
        """`read` in the calling thread."""
        with reading(self.engine) as connection, Session(connection) as session:
            return fn(self.store(session))

    def _transact(
        self, fn: Callable[[S], tuple[T, Iterable[Event]]], cause: str | None, at: datetime | None
    ) -> tuple[T, bool]:
        with writing(self.engine) as connection, Session(connection, expire_on_commit=False) as session:
            store = self.store(session)
            result, events = fn(store)
            if isinstance(store, ChassisStore):  # a Protocol's one as well
                store.flush()
            key = (self.settings.source, cause or uuid.uuid4().hex)
            now = at or datetime.now(UTC)
            names = {"group": self.settings.group, "source": self.settings.source}
            rows = outbox.emitted(list(events), cause=key, now=now, traceparent=traces.current(), **names)
            session.flush()
            outbox.put(connection, rows, now)
            return result, CHANGED in session.info

    async def tick(self, run: Callable[[S, datetime], Iterable[Event]], now: datetime) -> None:
        """Runs a timer's function in a transaction."""
        await self.transact(lambda store: (None, run(store, now)))

    def wake(self, *, jobs: bool) -> None:
        """Tells the relay, and with `jobs` the workers, that a transaction may have left something for them."""
        self._wake_relay()
        if jobs:
            self._wake_workers()

    def wake_jobs(self) -> None:
        """Tells the workers to look for jobs now."""
        self._wake_workers()


def _nothing() -> None:
    """Stands for the relay and the workers until they are there."""
