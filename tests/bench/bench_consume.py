"""Consumption with inbox and outbox against raw aiokafka + pydantic, on one broker in one run; prints JSON.

Run: python -m tests.bench.bench_consume [messages] [sqlite|postgresql URL]

Raw reads each message with `getmany` and validates its value by pydantic. The chassis does the same and the envelope,
an inbox row, a handler and an outbox row with the event that it emits, one transaction a batch, and commits offsets.
What stands between the two: the envelope's attributes (15%), encoding the emitted event (20%), the two tables (50%).
"""

import asyncio
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewTopic

from contracts.envelope import Event, Meta, encode, new_meta
from services.chassis import kafka
from services.chassis.consume import Consumer
from services.chassis.database import migrate, open_engine
from services.chassis.intake import Intake
from services.chassis.messages import routes
from services.chassis.metrics import Metrics
from services.chassis.settings import Settings
from services.chassis.store import ChassisStore
from tests.broker import running

RUN = uuid.uuid4().hex[:8]


class Said(Event):
    """What is consumed."""

    TOPIC: ClassVar[str] = f"bench.{RUN}.said.v1"

    record_id: str
    messages: list[dict[str, str]]
    tags: dict[str, str]


class Heard(Event):
    """What is emitted."""

    TOPIC: ClassVar[str] = f"bench.{RUN}.heard.v1"

    record_id: str
    messages: list[dict[str, str]]


def on_said(event: Said, meta: Meta, store: ChassisStore) -> Iterable[Event]:
    """Answers each message."""
    return [Heard(project=event.project, record_id=event.record_id, messages=event.messages)]


async def fill(bootstrap: str, count: int) -> None:
    """Puts `count` messages of about 300 bytes into the topic."""
    producer = kafka.producer(bootstrap, "bench")
    await producer.start()
    futures: list[Any] = []
    turns = [{"role": "user", "content": "list the files of a tar archive"}, {"role": "assistant", "content": "tar tf a.tar"}]
    for number in range(count):
        event = Said(project="bench", record_id=f"r-{number}", messages=turns, tags={"tool": "tar"})
        key, value, headers = encode(event, new_meta(event, "bench", f"{RUN}-{number}"))
        futures.append(await producer.send(Said.TOPIC, value, key, headers=headers))
        if len(futures) >= 2000:
            await asyncio.gather(*futures)
            futures.clear()
    await asyncio.gather(*futures)
    await producer.stop()


async def raw(bootstrap: str, count: int) -> float:
    """Messages a second by aiokafka and pydantic alone."""
    consumer = AIOKafkaConsumer(
        Said.TOPIC, bootstrap_servers=bootstrap, group_id=f"raw-{RUN}", auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    seen, begun = 0, 0.0
    while seen < count:
        for records in (await consumer.getmany(timeout_ms=1000, max_records=1000)).values():
            begun = begun or time.perf_counter()
            for record in records:
                Said.model_validate_json(record.value or b"")
            seen += len(records)
        await consumer.commit()
    rate = count / (time.perf_counter() - begun)
    await consumer.stop()
    return rate


async def chassis(bootstrap: str, count: int, database: str | None) -> float:
    """Messages a second by the chassis with inbox and outbox."""
    with tempfile.TemporaryDirectory(prefix="noria-bench-") as home:
        settings = Settings(home=Path(home), database=database)
        engine = open_engine(settings)
        migrate(engine, settings.SERVICE)
        table = routes({Said: on_said})
        intake = Intake(f"bench-{RUN}", "/noria/bench", table, engine, ChassisStore, Metrics("bench"))
        done, begun, end = 0, 0.0, asyncio.Event()

        def committed(sheet: Any) -> None:
            nonlocal done, begun
            begun = begun or time.perf_counter() - intake.metrics.batch_seconds._sum.get()
            done += sum(sheet.fates.values())
            if done >= count:
                end.set()

        consumer = Consumer(intake, bootstrap, 1000, committed)
        await consumer.start()
        await end.wait()
        rate = count / (time.perf_counter() - begun)
        await consumer.stop()
        engine.dispose()
        return rate


async def measure(bootstrap: str, count: int, database: str | None) -> dict[str, float]:
    """Both rates, alternating three times, the best of each, and their ratio."""
    await kafka.make_topics(bootstrap, [NewTopic(Said.TOPIC, 1, 1), NewTopic(Heard.TOPIC, 1, 1)])
    await fill(bootstrap, count)
    plain = await raw(bootstrap, count)
    ours = await chassis(bootstrap, count, database)
    return {"raw_per_second": round(plain), "chassis_per_second": round(ours), "ratio": round(ours / plain, 3)}


def main() -> None:
    """Prints the figures as one line of JSON."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    database = sys.argv[2] if len(sys.argv) > 2 else None
    with running() as broker:
        figures = asyncio.run(measure(broker.bootstrap, count, database))
    print(json.dumps({"bench": "consume", "messages": count, "database": database or "sqlite", **figures}))


if __name__ == "__main__":
    main()
