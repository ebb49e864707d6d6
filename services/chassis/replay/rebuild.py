"""Rebuilds a service's state from the log into a fresh database and compares it with the live one; changes neither.

    python -m services.chassis.replay.rebuild SERVICE

prints {"service", "messages", "parked", "outbox", "moving", "differences"} and ends with 0 where nothing differs, 1 where
something does, 2 where it cannot be told. The messages pass the same context as ever; what they make the service emit is thrown
away. The service works on meanwhile: a difference stands once it was seen twice with nothing new in the log between.
"""

import asyncio
import importlib
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy import Engine

from services.chassis.messaging import outbox, parking, retry
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.messaging.kafka import aiokafka_patches
from services.chassis.messaging.kafka.security import security
from services.chassis.messaging.messages import ConsumerRecord, routes
from services.chassis.messaging.relay import backlog
from services.chassis.observability import logs
from services.chassis.observability.metrics import Metrics
from services.chassis.replay.difference import Difference, differences
from services.chassis.replay.restore import Restore
from services.chassis.service import Service
from services.chassis.storage import database, migration

RECORDS = 500
QUIET = 30.0
"""Seconds without a message, while some must still come, until Kafka counts as silent."""


SETTLE = 1.0
"""Seconds between two looks at a service that works on: what it committed by then stands in the log."""
LOOKS = 10


@dataclass
class Rebuilding:
    """An empty database on its way to the state that the log tells, and how far the log is read."""

    service: Service
    engine: Engine
    read: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    """Where the next message of a partition stands."""
    messages: int = 0

    def __post_init__(self) -> None:
        own = [self.service.migrations] if self.service.migrations else []
        migration.migrate(self.engine, self.service.name, *own)
        self._context = batch_context_of(self.service, self.engine)

    def take(self) -> int:
        """Takes what stands in the log by now and was not read yet; how many messages.

        Raises:
            TimeoutError, KafkaError: Kafka does not answer.
        """
        before = self.messages
        asyncio.run(self._take())
        return self.messages - before

    async def _take(self) -> None:
        settings, context = self.service.settings, self._context
        own = frozenset(event.TOPIC for event in (self.service.restore or Restore()).events)
        client = {"bootstrap_servers": settings.kafka_bootstrap, **security(settings).arguments()}
        batch: list[ConsumerRecord] = []
        async for message in merged(client, sorted(context.routes), own, dict(self.read)):
            batch.append(message)
            self.read[TopicPartition(message.topic, message.partition)] = message.offset + 1
            self.messages += 1
            if len(batch) == RECORDS:
                apply(context, batch)
                batch = []
        apply(context, batch)

    def parked(self) -> int:
        """How many messages wait in the rebuilt state for something that is not in the log."""
        with database.reading(self.engine) as connection:
            return parking.count(connection)


def batch_context_of(service: Service, engine: Engine) -> BatchContext:
    """How the service takes messages, its own events too. A handler that fails is given up at once, as it was in the end."""
    settings, restore = service.settings, service.restore or Restore()
    handlers = routes({**service.handlers, **restore.events})
    return BatchContext(
        settings.group, settings.source, handlers, engine, service.store, Metrics(service.name), attempts=1
    )


def apply(context: BatchContext, batch: Sequence[ConsumerRecord]) -> None:
    """Takes messages and tries what waits, as long as anything comes of it."""
    take(context, batch)
    before = -1
    with database.reading(context.engine) as connection:
        waiting = parking.count(connection)
    while waiting and waiting != before:
        before = waiting
        with database.writing(context.engine) as connection:
            parking.retry_now(connection, context.group, None, datetime.now(UTC))
        retry.try_due(context)
        with database.reading(context.engine) as connection:
            waiting = parking.count(connection)
    with database.writing(context.engine) as connection:
        connection.execute(outbox.OUTBOX.delete())


async def merged(
    client: dict[str, Any], topics: Sequence[str], own: frozenset[str], read: Mapping[TopicPartition, int]
) -> AsyncIterator[ConsumerRecord]:
    """The messages that stand in `topics` now and not before `read`, by time; those of one partition keep their order.

    The time is Kafka's, and of the service's `own` events their ce_time: the outbox may have published them later.
    """
    aiokafka_patches.install()
    reader = AIOKafkaConsumer(**client, group_id=None, isolation_level="read_committed")
    await reader.start()
    try:
        places = await _places(reader, topics)
        first, last = await reader.beginning_offsets(places), await reader.end_offsets(places)
        begin = {place: max(first[place], read.get(place, 0)) for place in places}
        ends = {place: last[place] for place in places if begin[place] < last[place]}
        if not ends:
            return
        reader.assign(list(ends))
        for place in ends:
            reader.seek(place, begin[place])
        held = {place: deque[ConsumerRecord]() for place in ends}
        latest = dict.fromkeys(ends, 0.0)
        while await _fill(reader, held, ends):
            at = {p: max(latest[p], when(found[0], own)) for p, found in held.items()}
            place = min(held, key=lambda p: (at[p], p.topic in own, p))
            latest[place] = at[place]
            yield held[place].popleft()
    finally:
        await reader.stop()


def when(message: ConsumerRecord, own: frozenset[str]) -> float:
    """Milliseconds since 1970 by which the message takes its place."""
    if message.topic in own:
        try:
            return datetime.fromisoformat((dict(message.headers).get("ce_time") or b"").decode()).timestamp() * 1000
        except ValueError:
            return float(message.timestamp)
    return float(message.timestamp)


async def _places(reader: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    known = await reader._client.fetch_all_metadata()  # pyright: ignore[reportPrivateUsage] - without a group it learns of no topic
    return [TopicPartition(topic, n) for topic in topics for n in sorted(known.partitions_for_topic(topic) or ())]


async def _fill(
    reader: AIOKafkaConsumer, held: dict[TopicPartition, deque[ConsumerRecord]], ends: Mapping[TopicPartition, int]
) -> bool:
    """Sees to it that each partition with a rest has a message in hand; False where none is left."""
    for place in [p for p, found in held.items() if not found]:
        quiet = 0.0
        while not held[place] and await reader.position(place) < ends[place]:
            found = await reader.getmany(place, timeout_ms=500, max_records=RECORDS)
            held[place].extend(m for m in found.get(place, ()) if m.offset < ends[place])
            quiet = 0.0 if found else quiet + 0.5
            if quiet > QUIET:
                raise TimeoutError(f"Kafka sent nothing of {place.topic} for {QUIET:g} s")
        if not held[place]:
            del held[place]
    return bool(held)


def settled(
    take: Callable[[], int], compare: Callable[[], list[Difference]], pause: Callable[[], None]
) -> tuple[list[Difference], bool]:
    """The differences that stand, and whether the service moved until the end, so that they may be none.

    One stands that was seen twice with nothing new in the log between: `take` reads on and says how much there was.
    """
    found = compare()
    for _ in range(LOOKS):
        if not found:
            break
        pause()
        new, before = take(), found
        found = compare()
        if not new and found == before:
            return found, False
    return found, bool(found)


def report(service: Service) -> dict[str, Any]:
    """Rebuilds and compares.

    `parked`, `outbox` and `moving` say what may make a difference: messages that wait on either side, and a service that took
    or published more between all looks.
    """
    live, restore = database.open_engine(service.settings), service.restore or Restore()
    with tempfile.TemporaryDirectory(prefix=f"noria-replay-{service.name}-") as folder:
        fresh = database.open_sqlite(f"sqlite:///{Path(folder) / 'rebuilt.db'}", synchronous="OFF")
        try:
            rebuilding = Rebuilding(service, fresh)
            rebuilding.take()
            differ, moving = settled(
                rebuilding.take, lambda: differences(live, fresh, restore), lambda: time.sleep(SETTLE)
            )
            with database.reading(live) as connection:
                parked = {"live": parking.count(connection), "rebuilt": rebuilding.parked()}
            waiting = backlog(live).waiting
        finally:
            fresh.dispose()
            live.dispose()
    told = [difference.document() for difference in differ]
    return {
        "service": service.name,
        "messages": rebuilding.messages,
        "parked": parked,
        "outbox": waiting,
        "moving": moving,
        "differences": told,
    }


def main(name: str) -> int:
    """The exit status."""
    logs.configure_logging(name, "error")
    service: Service = importlib.import_module(f"services.{name}.app").service
    try:
        found = report(service)
    except (KafkaError, OSError, TimeoutError) as error:
        print(f"the log cannot be read: {error!r}", file=sys.stderr)
        return 2
    print(json.dumps(found, ensure_ascii=False))
    return 1 if found["differences"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
