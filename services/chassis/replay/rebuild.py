"""Rebuilds a service's state from the log into a fresh database and compares it with the live one; changes neither.

    python -m services.chassis.replay.rebuild SERVICE

prints {"service", "messages", "parked", "outbox", "differences"} and ends with 0 where nothing differs, 1 where something
does, 2 where it cannot be told. The messages pass the same context as ever; what they make the service emit is thrown away.
"""

import asyncio
import importlib
import json
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
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
from services.chassis.replay.difference import differences
from services.chassis.replay.restore import Restore
from services.chassis.service import Service
from services.chassis.storage import database, migration

RECORDS = 500
QUIET = 30.0
"""Seconds without a message, while some must still come, until Kafka counts as silent."""


@dataclass(frozen=True)
class Rebuilt:
    """The messages taken, and how many of them wait in the rebuilt state for something that is not in the log."""

    messages: int
    parked: int


def rebuild(service: Service, engine: Engine) -> Rebuilt:
    """Brings `engine`, an empty database, to the state that the log tells.

    Raises:
        TimeoutError, KafkaError: Kafka does not answer.
    """
    migration.migrate(engine, service.name, *([service.migrations] if service.migrations else []))
    settings, context = service.settings, batch_context_of(service, engine)
    own = frozenset(event.TOPIC for event in (service.restore or Restore()).events)
    client = {"bootstrap_servers": settings.kafka_bootstrap, **security(settings).arguments()}

    async def work() -> Rebuilt:
        count = 0
        batch: list[ConsumerRecord] = []
        async for message in merged(client, sorted(context.routes), own):
            batch.append(message)
            count += 1
            if len(batch) == RECORDS:
                apply(context, batch)
                batch = []
        apply(context, batch)
        with database.reading(engine) as connection:
            return Rebuilt(count, parking.count(connection))

    return asyncio.run(work())


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


async def merged(client: dict[str, Any], topics: Sequence[str], own: frozenset[str]) -> AsyncIterator[ConsumerRecord]:
    """The messages that stand in `topics` now, by time; those of one partition keep their order.

    The time is Kafka's, and of the service's `own` events their ce_time: the outbox may have published them later.
    """
    aiokafka_patches.install()
    reader = AIOKafkaConsumer(**client, group_id=None, isolation_level="read_committed")
    await reader.start()
    try:
        places = await _places(reader, topics)
        first, last = await reader.beginning_offsets(places), await reader.end_offsets(places)
        ends = {place: last[place] for place in places if first[place] < last[place]}
        if not ends:
            return
        reader.assign(list(ends))
        await reader.seek_to_beginning(*ends)
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


def report(service: Service) -> dict[str, Any]:
    """Rebuilds and compares. `parked` and `outbox` say what may make a difference: messages that wait on either side."""
    live = database.open_engine(service.settings)
    with tempfile.TemporaryDirectory(prefix=f"noria-replay-{service.name}-") as folder:
        fresh = database.open_sqlite(f"sqlite:///{Path(folder) / 'rebuilt.db'}", synchronous="OFF")
        try:
            found = rebuild(service, fresh)
            differ = differences(live, fresh, service.restore or Restore())
            with database.reading(live) as connection:
                parked = {"live": parking.count(connection), "rebuilt": found.parked}
            waiting = backlog(live).waiting
        finally:
            fresh.dispose()
            live.dispose()
    told = [difference.document() for difference in differ]
    return {
        "service": service.name,
        "messages": found.messages,
        "parked": parked,
        "outbox": waiting,
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
