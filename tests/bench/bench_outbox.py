"""Publishing through the outbox against pipelined aiokafka, on one broker in one run; prints JSON.

Run: python -m tests.bench.bench_outbox [messages] [SQLAlchemy URL]

ConsumerRecord sends messages with an idempotent producer, acknowledged by all, as fast as it takes them. The outbox has them in
its table (committed a thousand at a time, as batches of a service are) and its relay reads, sends, confirms and deletes
them; the writing counts too. What stands between: two statements and two syncs a thousand messages, and the rows' bytes.
"""

import asyncio
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from aiokafka.admin import NewTopic
from sqlalchemy import Engine

from contracts.envelope import Event
from services.chassis.jobs import leases
from services.chassis.memory import tune_garbage_collector
from services.chassis.messaging import outbox
from services.chassis.messaging.kafka import topics
from services.chassis.messaging.relay import Relay, backlog
from services.chassis.settings import Settings
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from tests.bench.bench_consume import quiet, until
from tests.broker import running

RUN = uuid.uuid4().hex[:8]
BATCH = 1000


class ErrorDetail(Event):
    """What is published, about 450 bytes with its headers."""

    TOPIC: ClassVar[str] = f"bench.{RUN}.published.v1"

    record_id: str
    text: str


def rows(count: int) -> list[outbox.Row]:
    """Messages as they stand in the outbox."""
    now = datetime.now(UTC)
    events = [
        ErrorDetail(project="bench", record_id=f"r-{n}", text="list the files of a tar archive " * 5)
        for n in range(count)
    ]
    return outbox.emitted(events, group="bench", source="/noria/bench", cause=("bench", RUN), now=now)


async def raw(bootstrap: str, messages: Sequence[outbox.Row]) -> float:
    """Messages a second by a pipelined producer."""
    producer = topics.producer(bootstrap, "bench")
    await producer.start()
    ready = [(topic, value, key, outbox.unpack_headers(headers)) for topic, key, value, headers in messages]
    begun = time.perf_counter()
    futures: list[Any] = [
        await producer.send(topic, value, key, headers=headers) for topic, value, key, headers in ready
    ]
    await asyncio.gather(*futures)
    rate = len(messages) / (time.perf_counter() - begun)
    await producer.stop()
    return rate


async def through(bootstrap: str, messages: Sequence[outbox.Row], engine: Engine) -> float:
    """Messages a second through the table and its relay."""
    relay = Relay(engine, bootstrap, leases.new_owner())
    task = asyncio.create_task(relay.run())
    while await relay.ask() is not None:  # noqa: ASYNC110 - a connection tells nobody
        await asyncio.sleep(0.005)
    begun = time.perf_counter()
    for start in range(0, len(messages), BATCH):
        await asyncio.to_thread(_write, engine, messages[start : start + BATCH])
        relay.filled.set()
    await until(lambda: not backlog(engine).waiting)
    rate = len(messages) / (time.perf_counter() - begun)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return rate


def _write(engine: Engine, messages: Sequence[outbox.Row]) -> None:
    with writing(engine) as connection:
        outbox.put(connection, messages, datetime.now(UTC))


async def measure(bootstrap: str, count: int, database: str | None) -> dict[str, int | float]:
    """Both rates, the best of three rounds, and their ratio."""
    await topics.make_topics(bootstrap, [NewTopic(ErrorDetail.TOPIC, 1, 1)])
    messages = rows(count)
    with tempfile.TemporaryDirectory(prefix="noria-bench-") as home:
        engine = open_engine(Settings(home=Path(home), database=database))
        migrate(engine, "noria")
        rounds = [(await raw(bootstrap, messages), await through(bootstrap, messages, engine)) for _ in range(3)]
        engine.dispose()
    plain, ours = max(first for first, _ in rounds), max(second for _, second in rounds)
    return {"raw": round(plain), "outbox": round(ours), "ratio": round(ours / plain, 3)}


def main() -> None:
    """Prints the figures as one line of JSON."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    database = sys.argv[2] if len(sys.argv) > 2 else None
    quiet()
    tune_garbage_collector()
    with running() as broker:
        figures = asyncio.run(measure(broker.bootstrap, count, database))
    print(json.dumps({"bench": "outbox", "messages": count, "database": database or "sqlite", **figures}))


if __name__ == "__main__":
    main()
