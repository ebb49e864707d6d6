"""How an attempt of a job ends: done, tried again later, failed, cancelled or given back; each in one transaction."""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import structlog
from sqlmodel import Session

from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.jobs import checkpoints, failures, workdirs
from services.chassis.jobs.failures import Failure
from services.chassis.jobs.job import Job, JobKind
from services.chassis.jobs.queue import JobQueue
from services.chassis.storage.database import clock, is_database_fault, writing
from services.chassis.timeouts import wait_at_most

T = TypeVar("T")
LOG: Any = structlog.get_logger("jobs")
LONGEST_WAIT = 30.0
"""Seconds between two tries to write down a result while the database is away."""
ENDS = frozenset({"done", "failed", "cancelled"})
Ended = tuple[str, Failure | None]
"""What became of the job, and why; None where it was no longer ours."""
Change = Callable[[Any], tuple[Ended | None, Iterable[Event]]]


def failure_of(status: int) -> Failure:
    """What the exit status of a process that said nothing means; negative: the signal that ended it."""
    if status == -signal.SIGKILL:
        return Failure("killed", "the process was killed (SIGKILL): most likely the machine ran out of memory")
    return Failure("crashed", f"the process ended with status {status} and no word")


class Outcomes:
    """Writes down what became of attempts; `stopping` ends the waiting for a database that is away."""

    def __init__(self, context: Context[Any], stopping: asyncio.Event) -> None:
        self._context = context
        self._stopping = stopping
        self._policy = failures.policy_of(context.settings)

    async def done(self, kind: JobKind, job: Job, result: dict[str, Any]) -> None:
        """Completes the job by compare-and-set; its events go out in the same transaction."""

        def change(store: Any) -> tuple[Ended | None, Iterable[Event]]:
            if not JobQueue(store.session).finish(job, clock(store.session.connection()), "done"):
                return None, ()
            return ("done", None), list(kind.on_done(store, store.jobs.get(job.id) or job, result))

        try:
            mine = await self._write(job, "done", change)
        except Exception as error:
            if is_database_fault(error):
                raise
            LOG.exception("the job's result could not be taken", job=job.id)
            detail = f"its result could not be taken: {type(error).__name__}: {error}"[:1000]
            return await self.failed(kind, job, Failure("internal", detail))
        if mine:  # nothing goes on from here; a failed or cancelled job may be retried
            folder = workdirs.workdir(self._context.settings, job.id)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            await asyncio.to_thread(self._discard, job.checkpoint)
        return None

    async def failed(self, kind: JobKind, job: Job, failure: Failure) -> None:
        """Tries the job again later where the failure passes, and ends it where not, or where its tries are used up."""
        seconds = failures.pause(job.failures + 1, self._policy)
        mine = await self._write(job, "failed", lambda store: self._fail(store, kind, job, failure, seconds))
        # The workers look for the job as its pause is over, rather than at their next round.
        asyncio.get_running_loop().call_later(seconds + 0.01, self._context.wake_jobs)
        if mine and failure.code == "disk_full":
            with contextlib.suppress(Exception):  # the next sweep tells; what became of the job is written
                await asyncio.to_thread(self._sweep_folders, timedelta(0))

    async def given_up(self, kind: JobKind, job: Job, failure: Failure) -> None:
        """Ends the job as failed, whatever its tries."""
        last = failures.final(failure, 1, kind.advice)
        await self._write(job, "failed", lambda store: _end(store, kind, job, "failed", last))

    async def cancelled(self, kind: JobKind, job: Job, when: str) -> None:
        """Ends the job as somebody wished, `when` being the rest of the sentence that says so."""
        failure = Failure("cancelled", f"cancelled {when}")
        await self._write(job, "cancelled", lambda store: _end(store, kind, job, "cancelled", failure))

    async def given_back(self, job: Job) -> None:
        """Frees the job of a service that stops."""

        def change(store: Any) -> tuple[Ended | None, Iterable[Event]]:
            return ("given back", None) if JobQueue(store.session).give_back(job) else None, ()

        await self._write(job, "given-back", change)

    def sweep(self, keep: timedelta) -> None:
        """Removes what jobs left that ended so long ago: their folders here, their checkpoints in the store. Blocks."""
        self._sweep_folders(keep)
        with writing(self._context.engine) as connection, Session(connection) as session:
            dropped = JobQueue(session).drop_checkpoints(datetime.now(UTC) - keep)
        for checkpoint in dropped:
            self._discard(checkpoint)

    def _sweep_folders(self, keep: timedelta) -> None:
        def ended(ids: list[str]) -> dict[str, datetime | None]:
            return self._context.read_now(lambda store: JobQueue(store.session).ended(ids))

        workdirs.sweep(workdirs.root(self._context.settings), ended, datetime.now(UTC) - keep)

    def _discard(self, checkpoint: dict[str, Any] | None) -> None:
        checkpoints.discard(self._context.artifacts, checkpoints.superseded(checkpoint, None))

    def _fail(
        self, store: Any, kind: JobKind, job: Job, failure: Failure, seconds: float
    ) -> tuple[Ended | None, Iterable[Event]]:
        queue = JobQueue(store.session)
        held = queue.held(job)
        if held is None:
            return None, ()
        count, crashes = held.failures + 1, held.crashes + (failure.code in failures.CRASHES)
        if failures.exhausted(failure, count, crashes, held.code, self._policy):
            return _end(store, kind, job, "failed", failures.final(failure, count, kind.advice))
        at = clock(store.session.connection()) + timedelta(seconds=seconds)
        queue.retry_later(job, failure, at, failures=count, crashes=crashes)
        return (f"tried again in {seconds:.0f} s", failure), ()

    async def _write(self, job: Job, status: str, change: Change) -> bool:
        """Whether the job was still ours."""
        # The lease's token stands in the ids of the events: a job that is run once more after its end tells anew.
        cause = f"job:{job.kind}:{job.id}:{status}-{job.token}"
        ended = await self.until_written(job, lambda: self._context.transact(change, cause=cause))
        if ended is None:
            LOG.warning("job was taken over by another worker", job=job.id)
            return False
        became, failure = ended
        why = {"code": failure.code, "detail": failure.detail[:300]} if failure else {}
        said = "job ended" if became in ENDS else "job goes on later"
        if became in ENDS:
            self._context.metrics.jobs_ended.labels(job.kind, became).inc()
        LOG.info(said, job=job.id, kind=job.kind, attempt=job.attempts, outcome=became, **why)
        return True

    async def until_written(self, job: Job, write: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `write` gives once the database is there: what took hours is not lost to seconds without it.

        Raises:
            DBAPIError: the database is away and the service stops; the job's lease runs out and it is leased again.
        """
        wait = 0.5
        while True:
            try:
                return await write()
            except Exception as error:
                if not is_database_fault(error) or self._stopping.is_set():
                    raise
                LOG.warning("the job's end waits for the database", job=job.id, detail=str(error)[:300])
            await wait_at_most(self._stopping, wait)
            wait = min(LONGEST_WAIT, wait * 2)


def _end(store: Any, kind: JobKind, job: Job, status: str, failure: Failure) -> tuple[Ended | None, Iterable[Event]]:
    if not JobQueue(store.session).finish(job, clock(store.session.connection()), status, failure):
        return None, ()
    return (status, failure), list(kind.on_failed(store, store.jobs.get(job.id) or job, failure))
