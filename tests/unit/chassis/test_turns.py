"""Workers with real child processes: a job that resumes gives way to another project's, and slots are a setting."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.errors import JobStopped
from services.chassis.jobs import leases
from services.chassis.jobs.child import stop_requested
from services.chassis.jobs.job import Job, JobKind
from services.chassis.jobs.queue import JobQueue
from services.chassis.jobs.workers import Workers
from services.chassis.observability.metrics import Metrics
from services.chassis.settings import Settings
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import open_sqlite, reading, writing
from services.chassis.storage.migration import migrate
from services.chassis.storage.store import ChassisStore

TARGET = "tests.unit.chassis.test_turns:count"


def count(spec: dict[str, Any], workdir: Path, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The job: counts to `steps` and notes each step, so that it resumes where it was, and then hurries."""
    place = workdir / "step"
    step = int(place.read_text()) if place.exists() else 0
    begun = step
    while step < spec["steps"]:
        if stop_requested():
            raise JobStopped("asked to stop")
        step += 1
        place.write_text(str(step))
        report({"step": step})
        time.sleep(0.05 if begun == 0 else 0)
    return {"begun": begun}


def done(store: ChassisStore, job: Job, result: dict[str, Any]) -> Iterable[Event]:
    return ()


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context[ChassisStore]]:
    settings = Settings(home=tmp_path, job_turn_seconds=0.5)
    engine = open_sqlite(settings.database_url, synchronous="OFF")
    migrate(engine, settings.SERVICE)
    yield Context(settings, engine, ChassisStore, open_store(settings), Metrics("tiny"))
    engine.dispose()


async def finished(context: Context[ChassisStore], kind: JobKind, wanted: set[str]) -> list[Job]:
    """Lets workers run until the jobs are done; all jobs in the order of their end."""
    workers = Workers(context, [kind], leases.new_owner())
    workers.start()
    try:
        async with asyncio.timeout(40):
            while True:
                jobs = await context.read(lambda store: [store.jobs.get(id) for id in ("long", "short")])
                found = [job for job in jobs if job is not None and job.status == "done"]
                if wanted <= {job.id for job in found}:
                    return sorted(found, key=lambda job: str(job.finished_at))
                await asyncio.sleep(0.05)
    finally:
        await workers.stop()


def enqueue(engine: Engine, id: str, steps: int, project: str) -> None:
    with writing(engine) as connection, Session(connection) as session:
        JobQueue(session).enqueue("count", id, {"steps": steps}, project=project)
        session.flush()


def test_job_gives_way_after_its_turn_and_goes_on_where_it_was(context: Context[ChassisStore]) -> None:
    begun: list[int] = []

    def ended(store: ChassisStore, job: Job, result: dict[str, Any]) -> Iterable[Event]:
        begun.append(result["begun"])
        return ()

    enqueue(context.engine, "long", 400, "a")
    enqueue(context.engine, "short", 2, "b")
    kind = JobKind("count", TARGET, on_done=ended, on_failed=lambda *_: (), resumes=True)
    first, second = asyncio.run(finished(context, kind, {"long", "short"}))
    assert [first.id, second.id] == ["short", "long"]
    assert (second.attempts, second.failures) == (1, 0)
    assert begun[0] == 0
    assert begun[1] > 5


def test_job_that_cannot_resume_keeps_its_slot(context: Context[ChassisStore]) -> None:
    enqueue(context.engine, "long", 30, "a")
    enqueue(context.engine, "short", 2, "b")
    kind = JobKind("count", TARGET, on_done=done, on_failed=lambda *_: ())
    first, second = asyncio.run(finished(context, kind, {"long", "short"}))
    assert [first.id, second.id] == ["long", "short"]


def test_slots_are_a_setting(context: Context[ChassisStore]) -> None:
    context.settings.job_slots = 2
    enqueue(context.engine, "long", 30, "a")
    enqueue(context.engine, "short", 2, "b")
    kind = JobKind("count", TARGET, on_done=done, on_failed=lambda *_: ())
    first, second = asyncio.run(finished(context, kind, {"long", "short"}))
    assert [first.id, second.id] == ["short", "long"]
    with reading(context.engine) as connection, Session(connection) as session:
        assert JobQueue(session).counts() == {}
    name, labels = f"{context.metrics.prefix}jobs_ended_total", {"kind": "count", "status": "done"}
    assert context.metrics.registry.get_sample_value(name, labels) == 2
