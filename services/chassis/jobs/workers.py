"""Runs leased jobs in child processes: heartbeat, progress, cancellation, give-back, completion by compare-and-set.

Knows the book of jobs and the child's messages; what a job does is its function's affair.
"""

import asyncio
import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from sqlmodel import Session

from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.jobs import process
from services.chassis.jobs.queue import Failure, Job, JobKind, JobQueue
from services.chassis.storage.database import clock, is_database_fault, reading, tell, writing

LOG: Any = structlog.get_logger("jobs")
IDLE_SECONDS = 5.0
LEASES = 10
"""A job whose holders vanished so often is given up: it may be what kills them."""


@dataclass(slots=True)
class Run:
    """A job under way: the newest progress, and what the child said last."""

    job: Job
    child: process.Process
    progress: dict[str, Any] | None = None
    outcome: dict[str, Any] = field(default_factory=dict[str, Any])
    cancelled: bool = False
    lost: bool = False
    gives_way: bool = False
    began: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)


class Workers:
    """The workers of a service's kinds of job."""

    def __init__(self, context: Context[Any], kinds: Iterable[JobKind], owner: str) -> None:
        self._context = context
        self._kinds = tuple(kinds)
        self._owner = owner
        self._stopping = asyncio.Event()
        self._wakes: list[asyncio.Event] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._runs: list[Run] = []

    def progress_ages(self) -> dict[str, float]:
        """Seconds since the start or the last progress of the stillest job under way here, by kind; 0 where none is."""
        now, ages = time.monotonic(), {kind.kind: 0.0 for kind in self._kinds}
        for run in self._runs:
            ages[run.job.kind] = max(ages[run.job.kind], now - run.moved)
        return ages

    def start(self) -> None:
        """Starts a worker for each slot of each kind."""
        for kind in self._kinds:
            for slot in range(self._context.settings.job_slots):
                wake = asyncio.Event()
                self._wakes.append(wake)
                self._tasks.append(asyncio.create_task(self._work(kind, wake), name=f"job-{kind.kind}-{slot}"))

    def wake(self) -> None:
        """Lets idle workers look for a job now, and busy ones for a cancellation."""
        for wake in self._wakes:
            wake.set()

    async def stop(self) -> None:
        """Lets children save their state and gives their jobs back."""
        self._stopping.set()
        self.wake()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _work(self, kind: JobKind, wake: asyncio.Event) -> None:
        while not self._stopping.is_set():
            wake.clear()
            try:
                job = await asyncio.to_thread(self._lease, kind.kind)
                if job is not None:
                    await self._run(kind, job, wake)
                    continue
            except Exception as error:
                tell(LOG, "worker stumbled; in 5 s once more", error, kind=kind.kind)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), IDLE_SECONDS)

    def _lease(self, kind: str) -> Job | None:
        seconds = self._context.settings.lease_seconds
        with reading(self._context.engine) as connection, Session(connection) as session:
            if not JobQueue(session).any_free(kind, clock(connection), seconds):
                return None
        with writing(self._context.engine) as connection, Session(connection) as session:
            return JobQueue(session).lease(kind, self._owner, clock(connection), seconds)

    def _book(self, deed: Callable[[JobQueue], Any]) -> Any:
        with writing(self._context.engine) as connection, Session(connection) as session:
            result = deed(JobQueue(session))
            session.flush()
            return result

    async def _run(self, kind: JobKind, job: Job, wake: asyncio.Event) -> None:
        log = LOG.bind(job=job.id, kind=job.kind, attempt=job.attempts)
        if job.cancel:
            await self._end(kind, job, "cancelled", Failure("cancelled", "cancelled before it ran"))
            return
        if job.attempts > LEASES:
            await self._end(kind, job, "failed", Failure("crashed", f"its worker vanished {LEASES} times"))
            return
        log.info("job begins")
        settings = self._context.settings
        child = await process.start(kind.target, job.spec, self.workdir(job), settings.environment())
        run = Run(job, child)
        self._runs.append(run)
        watch = asyncio.create_task(self._watch(kind, run, wake))
        try:
            async for message in child.messages():
                run.progress, run.moved = message.get("progress", run.progress), time.monotonic()
                if "progress" not in message:
                    run.outcome = message
            status = await child.wait()
        finally:
            self._runs.remove(run)
            child.kill()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await self._conclude(kind, run, status)

    async def _watch(self, kind: JobKind, run: Run, wake: asyncio.Event) -> None:
        """Renews the lease, passes progress on once a second, and ends the child when asked to."""
        settings = self._context.settings
        beat = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), 1.0)
            woken, progress = wake.is_set(), run.progress
            wake.clear()
            if self._stopping.is_set():
                await run.child.stop(settings.stop_seconds)
                return
            if not (progress or woken or time.monotonic() - beat > settings.lease_seconds / 4):
                continue
            beat, run.progress = time.monotonic(), None
            try:
                await self._beat(kind, run, progress)
            except Exception as error:
                tell(LOG, "heartbeat failed", error, job=run.job.id)
            if run.lost:
                run.child.kill()
                return
            if run.gives_way:
                LOG.info("job gives way to another project's", job=run.job.id)
                await run.child.stop(settings.stop_seconds)
                return
            if run.cancelled:
                (self.workdir(run.job) / "cancel").touch()
                await run.child.stop(10.0)
                return

    async def _beat(self, kind: JobKind, run: Run, progress: dict[str, Any] | None) -> None:
        settings = self._context.settings
        had_its_turn = kind.resumes and time.monotonic() - run.began > settings.job_turn_seconds

        def deed(store: Any) -> tuple[Job | None, Iterable[Event]]:
            book, now = JobQueue(store.session), clock(store.session.connection())
            job = book.heartbeat(run.job, now, settings.lease_seconds, progress)
            run.gives_way = job is not None and had_its_turn and book.gives_way(job, now)
            report = kind.on_progress if job and progress else None
            return job, list(report(store, job, progress)) if report and job and progress else ()

        job = await self._context.transact(deed)
        run.lost = job is None
        run.cancelled = job is not None and job.cancel

    async def _conclude(self, kind: JobKind, run: Run, status: int) -> None:
        job, outcome = run.job, run.outcome
        if run.lost:
            LOG.warning("job was taken over by another worker", job=job.id)
        elif "result" in outcome:
            await self._end(kind, job, "done", outcome["result"])
        elif run.cancelled:
            await self._end(kind, job, "cancelled", Failure("cancelled", "cancelled while it ran"))
        elif "failure" in outcome:
            await self._end(kind, job, "failed", Failure(**outcome["failure"]))
        elif self._stopping.is_set() or run.gives_way or "stopped" in outcome:
            await asyncio.to_thread(self._book, lambda book: book.give_back(job, crashed=False))
            LOG.info("job given back", job=job.id)
        elif status == -signal.SIGKILL:
            detail = "the process was killed (SIGKILL): most likely the machine ran out of memory"
            await self._end(kind, job, "failed", Failure("out_of_memory", detail))
        elif job.crashes + 1 >= self._context.settings.job_attempts:
            detail = f"the process ended with status {status}, {job.crashes + 1} times"
            await self._end(kind, job, "failed", Failure("crashed", detail))
        else:
            LOG.warning("job crashed, trying again", job=job.id, status=status)
            await asyncio.to_thread(self._book, lambda book: book.give_back(job, crashed=True))

    async def _end(self, kind: JobKind, job: Job, status: str, result: dict[str, Any] | Failure) -> None:
        """Completes the job and emits its events in one transaction; without effect where the lease was lost."""
        failure = result if isinstance(result, Failure) else None

        def deed(store: Any) -> tuple[bool, Iterable[Event]]:
            if not JobQueue(store.session).finish(job, clock(store.session.connection()), status, failure):
                return False, ()
            ended = store.jobs.get(job.id) or job
            if isinstance(result, Failure):
                return True, list(kind.on_failed(store, ended, result))
            return True, list(kind.on_done(store, ended, result))

        try:
            mine = await self._context.transact(deed, cause=f"job:{job.kind}:{job.id}:{status}")
        except Exception as error:
            if failure is not None or is_database_fault(error):
                raise
            LOG.exception("the job's result could not be taken", job=job.id)
            detail = f"its result could not be taken: {type(error).__name__}: {error}"[:1000]
            await self._end(kind, job, "failed", Failure("internal", detail))
            return
        fields = {"code": failure.code, "detail": failure.detail[:300]} if failure else {}
        LOG.info("job ended" if mine else "job had been taken over", job=job.id, kind=job.kind, status=status, **fields)
        if mine:
            await asyncio.to_thread(shutil.rmtree, self.workdir(job), ignore_errors=True)

    def workdir(self, job: Job) -> Path:
        """The job's own folder, kept while it is not over."""
        settings = self._context.settings
        return settings.home / "state" / "jobs" / settings.SERVICE / quote(job.id, safe="")[:200].replace(".", "%2E")
