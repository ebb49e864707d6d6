"""Publishes the rows of an outbox table to Kafka in their order. Knows no handler and no FastStream.

Rows are deleted once Kafka has confirmed them; a kill in between sends them again under the same ce_id. One instance
relays a database at a time, by a lease.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from sqlalchemy import Connection, Engine, delete, func, select, update

from services.chassis.jobs.leases import hold
from services.chassis.messaging.kafka import topics
from services.chassis.messaging.kafka.security import Security
from services.chassis.messaging.outbox import OUTBOX
from services.chassis.messaging.produce import BatchSender, Pending
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.database import log_failure, reading, writing
from services.chassis.timeouts import wait_at_most

LOG: Any = structlog.get_logger("relay")
FOR_GOOD = (
    MessageSizeTooLargeError,
    RecordTooLargeError,
    InvalidTopicError,
    AssertionError,  # aiokafka asserts what it cannot encode
    TypeError,
    ValueError,
)
CLOSED = (UnknownTopicOrPartitionError, TopicAuthorizationFailedError)
"""Whoever runs Kafka can mend these, so the messages of such a topic wait."""
LIMIT = 1000
MOST_BYTES = 16 << 20
"""So much of the rows' values is in memory at a time, or one row that is larger."""
IDLE_SECONDS = 5.0
ASK_SECONDS = 2.0
LEASE_SECONDS = 30.0
ABSENT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """What an outbox holds: rows to publish, age of the oldest in seconds, rows refused for good."""

    waiting: int
    age: float
    failed: int


class Relay:
    """The relay of one outbox table. `filled` is set by whoever commits rows."""

    def __init__(
        self,
        engine: Engine,
        bootstrap: str,
        owner: str,
        metrics: Metrics | None = None,
        security: Security = topics.OPEN,
    ) -> None:
        self.filled = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None
        self._engine = engine
        self._bootstrap = bootstrap
        self._owner = owner
        self._security = security
        self._metrics = metrics
        self._absent: dict[str, float] = {}

    async def ask(self) -> str | None:
        """What keeps Kafka from answering; None where it answers.

        It is asked here since a consumer's connection answers nothing while a fetch waits on it, for up to a second.
        """
        if self._producer is None:
            return "the producer has no connection"
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError, OSError) as error:
            return f"Kafka does not answer: {error!r}"[:300]
        return None

    async def run(self) -> None:
        """Publishes until cancelled; survives any absence of Kafka or the database."""
        while True:
            producer, pause = topics.producer(self._bootstrap, self._owner, self._security), 2.0
            try:
                await producer.start()
                self._producer = producer
                await self._publish(producer)
                pause = 0.0
            except (KafkaError, OSError) as error:
                LOG.warning("outbox waits for Kafka", bootstrap=self._bootstrap, detail=f"{error!r}"[:300])
            except Exception as error:
                log_failure(LOG, "outbox could not be published; in 2 s once more", error)
            finally:
                self._producer = None
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(2):
                        await producer.stop()
            await asyncio.sleep(pause)

    async def _publish(self, producer: AIOKafkaProducer) -> None:
        """Publishes until something fails; returns where only the numbers of `producer` are spent, after a refusal."""
        sent: list[int] = []
        refused: list[tuple[int, str]] = []
        while True:
            self.filled.clear()
            rows = await asyncio.to_thread(self._step, sent, refused)
            sent, refused = [], []
            if rows:
                sent, refused, fault = await self._send(producer, rows)
                if fault is not None:
                    await asyncio.to_thread(self._settle, sent, refused)
                    if refused and isinstance(fault, OutOfOrderSequenceNumber):
                        return
                    raise fault
            if not (sent or refused):
                await wait_at_most(self.filled, IDLE_SECONDS)

    def _step(self, sent: Sequence[int], refused: Sequence[tuple[int, str]]) -> list[Pending]:
        """Writes down what became of the last rows and gives the next, none while another instance relays."""
        if not (sent or refused or self._anything()):
            return []
        with writing(self._engine) as connection:
            settle(connection, sent, refused)
            if not hold(connection, "relay", self._owner, LEASE_SECONDS):
                return []
        now = time.monotonic()
        self._absent = {topic: until for topic, until in self._absent.items() if until > now}
        with reading(self._engine) as connection:  # no batch waits for this to write
            return pending(connection, LIMIT, tuple(self._absent))

    def _settle(self, sent: Sequence[int], refused: Sequence[tuple[int, str]]) -> None:
        with writing(self._engine) as connection:
            settle(connection, sent, refused)

    def _anything(self) -> bool:
        with reading(self._engine) as connection:
            return anything(connection)

    async def _send(
        self, producer: AIOKafkaProducer, rows: Sequence[Pending]
    ) -> tuple[list[int], list[tuple[int, str]], BaseException | None]:
        """Sends all, then waits for all: (ids that Kafka has, ids refused for good with the reason, the first fault).

        What Kafka has said of a message is written down even where another failed: after a refusal by the broker
        itself all later ones of the partition fail, and to begin anew would end there for ever.
        """
        batches = await BatchSender(producer).send([row for row in rows if row.topic not in self._absent])
        answers: list[Any] = await asyncio.gather(*(each.answer for each in batches), return_exceptions=True)
        sent: list[int] = []
        refused: list[tuple[int, str]] = []
        fault: BaseException | None = None
        for batch, answer in zip((each.rows for each in batches), answers, strict=True):
            topic = batch[0].topic
            if isinstance(answer, FOR_GOOD):
                why = f"{type(answer).__name__}: {answer}"[:500]
                refused += [(row.id, why) for row in batch]
                for row in batch:
                    LOG.error("Kafka refuses a message for good", topic=topic, outbox_id=row.id, detail=why)
            elif isinstance(answer, CLOSED):
                self._hold_back(topic, answer)
            elif isinstance(answer, BaseException):
                fault = fault or answer
            else:
                sent += [row.id for row in batch]
                if self._metrics:
                    self._metrics.published.labels(topic).inc(len(batch))
        return sent, refused, fault

    def _hold_back(self, topic: str, error: KafkaError) -> None:
        if topic not in self._absent:
            LOG.error(
                "a topic does not exist or may not be written; its messages wait", topic=topic, detail=f"{error!r}"
            )
        self._absent[topic] = time.monotonic() + ABSENT_SECONDS


def anything(connection: Connection) -> bool:
    """Whether a row is to be published."""
    return connection.execute(select(OUTBOX.c.id).where(OUTBOX.c.status == "pending").limit(1)).first() is not None


def pending(connection: Connection, limit: int, without: Sequence[str]) -> list[Pending]:
    """The oldest rows to publish, those of some topics left out; no more than are together small enough."""
    wanted = [OUTBOX.c.status == "pending"]
    if without:
        wanted.append(OUTBOX.c.topic.not_in(without))
    sizes = select(OUTBOX.c.id, func.coalesce(func.length(OUTBOX.c.value), 0)).where(*wanted)
    found = connection.execute(sizes.order_by(OUTBOX.c.id).limit(limit)).all()
    if not found:
        return []
    upto = accumulate(size for _, size in found)
    few = sum(total <= MOST_BYTES for total in upto)
    last = found[max(few, 1) - 1][0]
    columns = (OUTBOX.c.id, OUTBOX.c.topic, OUTBOX.c.key, OUTBOX.c.value, OUTBOX.c.headers)
    query = select(*columns).where(*wanted, OUTBOX.c.id <= last).order_by(OUTBOX.c.id)
    return [Pending(*row) for row in connection.execute(query)]


def settle(connection: Connection, sent: Sequence[int], refused: Sequence[tuple[int, str]]) -> None:
    """Deletes rows that Kafka has and marks those it refuses for good."""
    for begin in range(0, len(sent), 500):
        connection.execute(delete(OUTBOX).where(OUTBOX.c.id.in_(sent[begin : begin + 500])))
    for id, reason in refused:
        connection.execute(update(OUTBOX).where(OUTBOX.c.id == id).values(status="failed", reason=reason))


def backlog(engine: Engine) -> Backlog:
    """What the outbox holds now."""
    with reading(engine) as connection:
        return count(connection)


def count(connection: Connection) -> Backlog:
    """The same, in the caller's transaction; the oldest row is the one that was written first."""
    counted = connection.execute(select(OUTBOX.c.status, func.count()).group_by(OUTBOX.c.status))
    counts = {row[0]: row[1] for row in counted}
    first = select(OUTBOX.c.created_at).where(OUTBOX.c.status == "pending").order_by(OUTBOX.c.id).limit(1)
    oldest = connection.execute(first).scalar()
    age = (datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0
    return Backlog(counts.get("pending", 0), max(0.0, age), counts.get("failed", 0))
