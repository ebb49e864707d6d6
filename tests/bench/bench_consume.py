"""Consumption with inbox and outbox against raw aiokafka + pydantic, on one broker in one run; prints JSON.

Run: python -m tests.bench.bench_consume [messages] [SQLAlchemy URL]

Four ways to handle the same messages (records as upstream sends them, 450 bytes with their headers):
- read: `getmany` and pydantic's validation of the value; offsets committed a batch. Nothing is done with the event.
- loop: the same as aiokafka's own documentation shows it, `async for message in consumer`.
- answer: as read, then the answer is made and published with pipelined aiokafka: the job, without any guarantee.
- chassis: the same job with inbox, outbox, one transaction a batch and offsets after it, until the answers stand in
  the outbox (`take`) and until Kafka has confirmed all of them (`whole`).
`ratio` is whole / answer, the same job with and without the guarantees; `ratio_read` is take / read, `ratio_loop`
take / loop: the guarantees against doing nothing with what was read.
What stands between take and loop, in microseconds of a message (of 38): the two tables 9.5, the emitted event with its
JSON and id 5, the envelope's attributes 5, the handler 2, the body's digest 1; of the rest, validation and fetching are
loop's too.
"""

import asyncio
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic

from contracts.envelope import Event, Meta, encode, new_meta
from contracts.events.upstream import RecordSubmittedV1
from services.chassis.jobs import leases
from services.chassis.memory import tune_garbage_collector
from services.chassis.messaging.batch import BatchContext, BatchResult
from services.chassis.messaging.consume import Consumer
from services.chassis.messaging.kafka import topics
from services.chassis.messaging.messages import routes
from services.chassis.messaging.outbox import OUTBOX
from services.chassis.messaging.relay import Relay, backlog
from services.chassis.observability.metrics import Metrics
from services.chassis.settings import Settings
from services.chassis.storage.database import open_engine
from services.chassis.storage.migration import migrate
from services.chassis.storage.store import ChassisStore
from tests.broker import running

NO_META = Meta("", "", "", datetime.now(UTC))
RUN = uuid.uuid4().hex[:8]


class ErrorDetail(RecordSubmittedV1):
    """What is consumed: a record as upstream systems send it."""

    TOPIC: ClassVar[str] = f"bench.{RUN}.said.v1"


class Heard(Event):
    """What is emitted: that the record was heard. Small, so that the chassis is measured and not a service's rules."""

    TOPIC: ClassVar[str] = f"bench.{RUN}.heard.v1"

    record_id: str


def on_said(event: ErrorDetail, meta: Meta, store: ChassisStore) -> Iterable[Event]:
    """Answers each message."""
    return [Heard(project=event.project, record_id=event.record_id)]


async def fill(bootstrap: str, count: int) -> None:
    """Puts `count` messages of about 300 bytes into the topic."""
    producer = topics.producer(bootstrap, "bench")
    await producer.start()
    futures: list[Any] = []
    turns: list[Any] = [
        {"role": "user", "content": "list the files of a tar archive"},
        {"role": "assistant", "content": "tar tf a.tar"},
    ]
    for number in range(count):
        event = ErrorDetail(project="bench", record_id=f"r-{number}", record={"messages": turns}, tags={"tool": "tar"})
        key, value, headers = encode(event, new_meta(event, "bench", f"{RUN}-{number}"))
        futures.append(await producer.send(ErrorDetail.TOPIC, value, key, headers=headers))
        if len(futures) >= 2000:
            await asyncio.gather(*futures)
            futures.clear()
    await asyncio.gather(*futures)
    await producer.stop()


class Watch:
    """Wall and processor seconds since the first message."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def begin(self) -> None:
        """Starts at the first call."""
        self.wall = self.wall or time.perf_counter()
        self.processor = self.processor or time.process_time()

    def rates(self, count: int) -> tuple[float, float]:
        """Messages a second of wall time and of processor time."""
        return count / (time.perf_counter() - self.wall), count / (time.process_time() - self.processor)


async def _consumer(bootstrap: str, group: str) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        ErrorDetail.TOPIC,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    return consumer


async def read(bootstrap: str, count: int, group: str) -> tuple[float, float]:
    """Messages a second by aiokafka and pydantic alone."""
    consumer, watch = await _consumer(bootstrap, group), Watch()
    seen = 0
    while seen < count:
        for records in (await consumer.getmany(timeout_ms=1000, max_records=1000)).values():
            watch.begin()
            for record in records:
                ErrorDetail.model_validate_json(record.value or b"")
            seen += len(records)
        await consumer.commit()
    rates = watch.rates(count)
    await consumer.stop()
    return rates


async def loop(bootstrap: str, count: int, group: str) -> tuple[float, float]:
    """Messages a second by aiokafka's documented loop and pydantic alone."""
    consumer, watch = await _consumer(bootstrap, group), Watch()
    seen = 0
    async for record in consumer:
        watch.begin()
        ErrorDetail.model_validate_json(record.value or b"")
        seen += 1
        if seen % 1000 == 0 or seen == count:
            await consumer.commit()
        if seen == count:
            break
    rates = watch.rates(count)
    await consumer.stop()
    return rates


async def answer(bootstrap: str, count: int, group: str) -> tuple[float, float]:
    """Messages a second by aiokafka and pydantic with an answer to each."""
    consumer, watch = await _consumer(bootstrap, group), Watch()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    seen = 0
    store: Any = None
    while seen < count:
        for records in (await consumer.getmany(timeout_ms=1000, max_records=1000)).values():
            watch.begin()
            futures: list[Any] = []
            for record in records:
                said = ErrorDetail.model_validate_json(record.value or b"")
                for event in on_said(said, NO_META, store):
                    meta = new_meta(event, "/noria/bench", str(uuid.uuid4()))
                    key, value, headers = encode(event, meta)
                    futures.append(await producer.send(Heard.TOPIC, value, key, headers=headers))
            await asyncio.gather(*futures)
            seen += len(records)
        await consumer.commit()
    rates = watch.rates(count)
    await producer.stop()
    await consumer.stop()
    return rates


async def chassis(bootstrap: str, count: int, group: str, database: str | None, *, whole: bool) -> tuple[float, float]:
    """Messages a second by the chassis, up to the outbox, or with `whole` until Kafka has the answers."""
    with tempfile.TemporaryDirectory(prefix="noria-bench-") as home:
        settings = Settings(home=Path(home), database=database)
        engine = open_engine(settings)
        migrate(engine, settings.SERVICE)
        watch, end, done = Watch(), asyncio.Event(), 0
        relay = Relay(engine, bootstrap, leases.new_owner())

        def make_store(session: Any) -> ChassisStore:
            watch.begin()
            return ChassisStore(session)

        def committed(result: BatchResult) -> None:
            nonlocal done
            done += sum(result.fates.values())
            relay.filled.set()
            if done >= count:
                end.set()

        context = BatchContext(
            group, "/noria/bench", routes({ErrorDetail: on_said}), engine, make_store, Metrics("bench")
        )
        consumer = Consumer(context, bootstrap, 1000, committed)
        relaying = asyncio.create_task(relay.run()) if whole else None
        await consumer.start()
        await end.wait()
        if whole:
            await until(lambda: not backlog(engine).waiting)
        rates = watch.rates(count)
        if relaying is not None:
            relaying.cancel()
            await asyncio.gather(relaying, return_exceptions=True)
        await consumer.stop()
        with engine.begin() as connection:
            connection.execute(OUTBOX.delete())
        engine.dispose()
        return rates


async def measure(bootstrap: str, count: int, database: str | None) -> dict[str, int | float]:
    """Every rate by the clock and by processor time, the best of three rounds, and the ratios."""
    await topics.make_topics(bootstrap, [NewTopic(ErrorDetail.TOPIC, 1, 1), NewTopic(Heard.TOPIC, 1, 1)])
    await fill(bootstrap, count)
    best: dict[str, float] = {}
    for number in range(3):
        rounds = {
            "read": await read(bootstrap, count, f"read-{number}"),
            "loop": await loop(bootstrap, count, f"loop-{number}"),
            "answer": await answer(bootstrap, count, f"answer-{number}"),
            "take": await chassis(bootstrap, count, f"take-{number}", database, whole=False),
            "whole": await chassis(bootstrap, count, f"whole-{number}", database, whole=True),
        }
        for name, (wall, processor) in rounds.items():
            best[name] = max(best.get(name, 0), wall)
            best[f"{name}_processor"] = max(best.get(f"{name}_processor", 0), processor)
    ratios = {
        "ratio": best["whole"] / best["answer"],
        "ratio_processor": best["whole_processor"] / best["answer_processor"],
        "ratio_read": best["take"] / best["read"],
        "ratio_loop": best["take"] / best["loop"],
        "ratio_read_processor": best["take_processor"] / best["read_processor"],
    }
    return {name: round(rate) for name, rate in best.items()} | {
        name: round(value, 3) for name, value in ratios.items()
    }


async def until(good: Callable[[], bool], seconds: float = 120) -> None:
    """Returns once `good` says so, looked at 200 times a second."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(good):  # noqa: ASYNC110 - a table tells nobody
            await asyncio.sleep(0.005)


def quiet() -> None:
    """Logs from warnings on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))


def main() -> None:
    """Prints the figures as one line of JSON."""
    quiet()
    tune_garbage_collector()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    database = sys.argv[2] if len(sys.argv) > 2 else None
    with running() as broker:
        figures = asyncio.run(measure(broker.bootstrap, count, database))
    print(json.dumps({"bench": "consume", "messages": count, "database": database or "sqlite", **figures}))


if __name__ == "__main__":
    main()
