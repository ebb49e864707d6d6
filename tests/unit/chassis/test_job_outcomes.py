"""What becomes of attempts, on both databases: real workers and processes, a store and a database that go away."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.jobs import workdirs
from services.chassis.jobs.failures import Failure, RetryPolicy
from services.chassis.jobs.job import Job, JobKind
from services.chassis.jobs.outcomes import Outcomes, failure_of
from services.chassis.jobs.queue import JobQueue
from services.chassis.jobs.workers import Workers
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import writing
from services.chassis.storage.store import ChassisStore
from tests.integration.tiny.harness import until
from tests.integration.tiny.service import TinySettings

ENDED: list[tuple[str, str, str]] = []


def on_done(store: ChassisStore, job: Job, result: dict[str, Any]) -> Iterable[Event]:
    ENDED.append((job.id, "done", str(result)))
    return ()


def on_failed(store: ChassisStore, job: Job, failure: Failure) -> Iterable[Event]:
    ENDED.append((job.id, failure.code, failure.detail))
    return ()


KIND = JobKind("work", "tests.integration.tiny.counting:work", on_done, on_failed, advice={"killed": "buy memory"})


@pytest.fixture
def context(engine: Engine, tmp_path: Path) -> Context[ChassisStore]:
    ENDED.clear()
    # A pause of seconds would be waited for; without jitter and doubling it is none.
    settings = TinySettings(home=tmp_path, job_retry_seconds=0.01, job_retry_max_seconds=0.01, job_attempts=4)
    return Context(settings, engine, ChassisStore, open_store(settings), Metrics("tiny"))


def enqueue(context: Context[ChassisStore], id: str = "a/1", how: str = "0") -> None:
    with writing(context.engine) as connection, Session(connection) as session:
        assert JobQueue(session).enqueue("work", id, {"number": 1, "how": how})
        session.flush()


def job_of(context: Context[ChassisStore], id: str = "a/1") -> Job:
    found = context.read_now(lambda store: store.jobs.get(id))
    assert found is not None
    return found


def lease(context: Context[ChassisStore]) -> Job:
    with writing(context.engine) as connection, Session(connection) as session:
        job = JobQueue(session).lease("work", "me", datetime.now(UTC) + timedelta(seconds=1), 20)
        session.flush()
    assert job is not None
    return job


def work_until(context: Context[ChassisStore], over: Callable[[], bool], *doing: Coroutine[Any, Any, None]) -> None:
    """Runs workers until it is so; wakes them, which in a service a timer and commits do."""

    async def main() -> None:
        workers = Workers(context, (KIND,), "me")
        workers.start()
        tasks = [asyncio.create_task(each) for each in doing]
        deadline = time.monotonic() + 30
        while not over():
            assert time.monotonic() < deadline, (job_of(context), ENDED)
            workers.wake()
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)
        await workers.stop()

    asyncio.run(main())


def test_job_that_kills_its_process_every_time_ends_with_that_cause(context: Context[ChassisStore]) -> None:
    enqueue(context, how="out-of-memory")
    work_until(context, lambda: bool(ENDED))
    ((_, code, detail),) = ENDED
    assert code == "killed"
    assert "most likely the machine ran out of memory; given up after 3 tries; buy memory" in detail
    assert job_of(context).attempts == 3


def test_job_whose_store_is_away_waits_and_is_done_when_it_is_back(
    context: Context[ChassisStore], tmp_path: Path
) -> None:
    place = tmp_path / "artifacts"
    place.write_text("a file where the store's folder was: nothing can be written below it")
    enqueue(context, how="0 publishes")
    work_until(context, lambda: job_of(context).failures >= 2)
    waits = job_of(context)
    assert (waits.code, waits.status in ("queued", "running")) == ("store_unavailable", True)
    assert str(place) in (waits.detail or "")
    place.unlink()
    work_until(context, lambda: bool(ENDED))
    assert ENDED == [("a/1", "done", "{'first': 10, 'last': 10}")], "what it had done was not done again"
    assert (job_of(context).status, job_of(context).detail) == ("done", None)


def test_full_disk_is_waited_out_after_room_was_made(context: Context[ChassisStore]) -> None:
    enqueue(context, "old", how="fails")
    work_until(context, lambda: bool(ENDED))
    old = workdirs.workdir(context.settings, "old")
    assert old.is_dir(), "a failed job may be retried"
    enqueue(context)
    job = lease(context)
    outcomes = Outcomes(context, asyncio.Event())
    asyncio.run(outcomes.failed(KIND, job, Failure("disk_full", "No space left on device")))
    assert (job_of(context).status, job_of(context).code) == ("queued", "disk_full")
    assert not old.exists()


def test_result_is_not_lost_to_a_database_that_is_away(
    context: Context[ChassisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(context)
    job = lease(context)
    transact, away = context.transact, [2]

    async def sometimes(*arguments: Any, **named: Any) -> Any:
        if away[0]:
            away[0] -= 1
            raise OperationalError("COMMIT", {}, Exception("the database system is starting up"))
        return await transact(*arguments, **named)

    monkeypatch.setattr(context, "transact", sometimes)
    asyncio.run(Outcomes(context, asyncio.Event()).done(KIND, job, {"last": 10}))
    assert (away, ENDED) == ([0], [("a/1", "done", "{'last': 10}")])


def test_service_that_stops_does_not_wait_for_its_database(
    context: Context[ChassisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(context)
    job = lease(context)

    async def never(*_: Any, **__: Any) -> Any:
        raise OperationalError("COMMIT", {}, Exception("away"))

    monkeypatch.setattr(context, "transact", never)

    async def main() -> None:
        stopping = asyncio.Event()
        stopping.set()
        await Outcomes(context, stopping).done(KIND, job, {})

    with pytest.raises(OperationalError):
        asyncio.run(main())
    assert job_of(context).status == "running", "its lease runs out, and it is leased again"


def test_result_that_cannot_be_taken_fails_the_job(context: Context[ChassisStore]) -> None:
    def breaks(store: ChassisStore, job: Job, result: dict[str, Any]) -> Iterable[Event]:
        raise KeyError("figures")

    enqueue(context)
    kind = JobKind("work", KIND.target, breaks, on_failed)
    asyncio.run(Outcomes(context, asyncio.Event()).done(kind, lease(context), {}))
    assert (ENDED[0][1], "KeyError" in ENDED[0][2]) == ("internal", True)


def test_job_whose_service_vanishes_every_time_is_given_up(context: Context[ChassisStore]) -> None:
    enqueue(context, how="stubborn")
    for _ in range(4):
        lease(context)
        with writing(context.engine) as connection, Session(connection) as session:
            JobQueue(session).reclaim(lambda owner: owner == "me", datetime.now(UTC), RetryPolicy(first_pause=0))
            session.flush()
    work_until(context, lambda: bool(ENDED))
    assert ENDED[0][1:] == (
        "worker_lost",
        "the service that ran it vanished 4 times in a row; see the log of the service and of its supervisor",
    )


def test_cancelled_job_keeps_its_folder_and_goes_on_once_it_is_retried(context: Context[ChassisStore]) -> None:
    enqueue(context, how="0.05")
    folder = workdirs.workdir(context.settings, "a/1")

    async def cancel() -> None:
        await asyncio.to_thread(until, (folder / "step").exists, bool)
        await context.transact(lambda store: (store.jobs.cancel("a/1"), ()))

    work_until(context, lambda: bool(ENDED), cancel())
    assert ENDED[0][1] == "cancelled"
    begun = int((folder / "step").read_text())
    assert 0 < begun < 10
    asyncio.run(context.transact(lambda store: (store.jobs.restart("a/1"), ())))
    work_until(context, lambda: len(ENDED) > 1)
    assert ENDED[1][1:] == ("done", f"{{'first': {begun}, 'last': 10}}")
    assert not folder.exists()


def test_checkpoint_in_the_store_outlives_the_folder(context: Context[ChassisStore], tmp_path: Path) -> None:
    enqueue(context, how="0.05 uploads")

    async def lose() -> None:
        await asyncio.to_thread(until, lambda: job_of(context).checkpoint, bool)
        await context.transact(lambda store: (store.jobs.cancel("a/1"), ()))

    work_until(context, lambda: bool(ENDED), lose())
    kept = job_of(context).checkpoint
    assert kept is not None
    outcomes = Outcomes(context, asyncio.Event())
    outcomes.sweep(timedelta(days=3))
    assert job_of(context).checkpoint == kept
    workdirs.sweep(
        workdirs.root(context.settings),
        lambda ids: dict.fromkeys(ids, datetime.min.replace(tzinfo=UTC)),
        datetime.now(UTC),
    )
    assert not workdirs.workdir(context.settings, "a/1").exists()
    asyncio.run(context.transact(lambda store: (store.jobs.restart("a/1"), ())))
    work_until(context, lambda: len(ENDED) > 1)
    assert ENDED[1][1:] == ("done", f"{{'first': {kept['step']}, 'last': 10}}")
    named = {ref["sha256"] for ref in kept["files"].values()}  # one put while the job was cancelled is left to gc
    found = {path.parent.name + path.name for path in (tmp_path / "artifacts/sha256").rglob("*") if path.is_file()}
    assert not named & found
    assert job_of(context).checkpoint is None


def test_sweep_forgets_the_checkpoint_of_a_job_that_ended_long_ago(
    context: Context[ChassisStore], tmp_path: Path
) -> None:
    enqueue(context)
    job = lease(context)
    ref = context.artifacts.put_bytes(b"x")
    checkpoint = {"step": 1, "files": {"step": ref.model_dump()}, "marked": True}
    with writing(context.engine) as connection, Session(connection) as session:
        assert JobQueue(session).heartbeat(job, datetime.now(UTC), 20, None, checkpoint)
    outcomes = Outcomes(context, asyncio.Event())
    asyncio.run(outcomes.failed(KIND, job, Failure("bad_recipe", "r is 0")))
    outcomes.sweep(timedelta(days=3))
    assert context.artifacts.get(ref).read_bytes() == b"x"
    outcomes.sweep(timedelta(seconds=-1))
    assert job_of(context).checkpoint is None
    assert not [path for path in (tmp_path / "artifacts/sha256").rglob("*") if path.is_file()]


def test_what_an_exit_status_means() -> None:
    assert (failure_of(-9).code, failure_of(-11).code, failure_of(1).code) == ("killed", "crashed", "crashed")
