"""Runs leased jobs in child processes: lease, heartbeat, progress, checkpoints, cancellation."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlmodel import Session

from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.jobs import checkpoints, process, workdirs
from services.chassis.jobs.failures import Failure, classify
from services.chassis.jobs.job import Job, JobKind
from services.chassis.jobs.outcomes import Outcomes, failure_of
from services.chassis.jobs.queue import JobQueue
from services.chassis.observability import traces
from services.chassis.storage.database import clock, log_failure, reading, writing
from services.chassis.timeouts import wait_at_most

LOG: Any = structlog.get_logger("jobs")
IDLE_SECONDS = 5.0
SWEEP_SECONDS = 600.0
"""Between two removals of what ended jobs left."""


@dataclass(slots=True)
class Attempt:
    """A job under way: the newest progress and checkpoint not yet in its row, and what the child said last."""

    job: Job
    child: process.Process
    progress: dict[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None
    outcome: dict[str, Any] = field(default_factory=dict[str, Any])
    cancelled: bool = False
    lost: bool = False
    gives_way: bool = False
    began: float | None = None
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
        self._attempts: list[Attempt] = []
        self._outcomes = Outcomes(context, self._stopping)

    def progress_ages(self) -> dict[str, float]:
        """Seconds since the start or the last progress of the stillest job under way here, by kind; 0 where none is."""
        now, ages = time.monotonic(), {kind.kind: 0.0 for kind in self._kinds}
        for attempt in self._attempts:
            ages[attempt.job.kind] = max(ages[attempt.job.kind], now - attempt.moved)
        return ages

    def start(self) -> None:
        """Starts a worker for each slot of each kind, and the removal of what ended jobs left."""
        if self._kinds:
            self._tasks.append(asyncio.create_task(self._sweep(), name="job-sweep"))
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
                    await self._attempt(kind, job, wake)
                    continue
            except Exception as error:
                log_failure(LOG, "worker stumbled; in 5 s once more", error, kind=kind.kind)
            await wait_at_most(wake, IDLE_SECONDS)

    def _lease(self, kind: str) -> Job | None:
        settings = self._context.settings
        seconds, longest = settings.lease_seconds, timedelta(seconds=settings.job_retry_max_seconds)
        with reading(self._context.engine) as connection, Session(connection) as session:
            if not JobQueue(session).any_free(kind, clock(connection), seconds, longest):
                return None
        with writing(self._context.engine) as connection, Session(connection) as session:
            return JobQueue(session).lease(kind, self._owner, clock(connection), seconds, longest)

    async def _sweep(self) -> None:
        """Removes what ended jobs left behind, once its time has come, until the service stops."""
        while not self._stopping.is_set():
            try:
                await asyncio.to_thread(self._outcomes.sweep, timedelta(days=self._context.settings.job_keep_days))
            except Exception as error:
                log_failure(LOG, "what ended jobs left was not removed", error)
            await wait_at_most(self._stopping, SWEEP_SECONDS)

    async def _attempt(self, kind: JobKind, job: Job, wake: asyncio.Event) -> None:
        """Runs the job's child to its end and writes down what became of it."""
        losses = job.worker_losses
        if job.cancel:
            await self._outcomes.cancelled(kind, job, "while it waited" if job.attempts > 1 else "before it ran")
        elif losses >= self._context.settings.job_attempts:
            failure = Failure("worker_lost", f"the service that ran it vanished {losses} times in a row")
            await self._outcomes.given_up(kind, job, failure)
        else:
            LOG.info("job begins", job=job.id, kind=job.kind, attempt=job.attempts)
            about = {"noria.job.id": job.id, "noria.project": job.project or "", "noria.job.attempt": job.attempts}
            with traces.span(f"job {kind.kind}", "INTERNAL", job.traceparent, about) as span:
                try:
                    attempt = Attempt(job, await self._start(kind, job))
                except OSError as error:  # no room for a folder, no memory for a process
                    await self._outcomes.failed(kind, job, classify(error))
                else:
                    await self._conclude(kind, attempt, await self._follow(kind, attempt, wake))
                    if failure := attempt.outcome.get("failure"):
                        span.fail(failure["code"], failure["detail"])

    async def _start(self, kind: JobKind, job: Job) -> process.Process:
        settings = self._context.settings
        folder = workdirs.workdir(settings, job.id)
        await asyncio.to_thread(_prepare, folder, job)
        return await process.start(kind.target, job.spec, folder, settings.environment())

    async def _follow(self, kind: JobKind, attempt: Attempt, wake: asyncio.Event) -> int:
        """Listens to the child until it ends; its exit status."""
        self._attempts.append(attempt)
        watch = asyncio.create_task(self._watch(kind, attempt, wake))
        try:
            async for message in attempt.child.messages():
                attempt.moved = time.monotonic()
                attempt.began = attempt.began or attempt.moved  # the import of torch is no part of a turn
                if "checkpoint" in message:
                    attempt.checkpoint = message["checkpoint"]
                elif "progress" in message:
                    attempt.progress = message["progress"]
                else:
                    attempt.outcome = message
            return await attempt.child.wait()
        finally:
            self._attempts.remove(attempt)
            attempt.child.kill()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, kind: JobKind, attempt: Attempt, wake: asyncio.Event) -> None:
        """Renews the lease, passes progress and checkpoints on once a second, and ends the child when asked to."""
        settings = self._context.settings
        beat = time.monotonic()
        while True:
            await wait_at_most(wake, 1.0)
            woken = wake.is_set()
            wake.clear()
            if self._stopping.is_set():
                await attempt.child.stop(settings.stop_seconds)
                return
            told = attempt.progress or attempt.checkpoint
            if not (told or woken or time.monotonic() - beat > settings.lease_seconds / 4):
                continue
            beat = time.monotonic()
            try:
                await self._beat(kind, attempt)
            except Exception as error:
                log_failure(LOG, "heartbeat failed", error, job=attempt.job.id)
            if attempt.lost:
                attempt.child.kill()
                return
            if attempt.gives_way:
                LOG.info("job gives way to another project's", job=attempt.job.id)
                await attempt.child.stop(settings.stop_seconds)
                return
            if attempt.cancelled:
                (workdirs.workdir(settings, attempt.job.id) / workdirs.CANCEL).touch()
                await attempt.child.stop(10.0)
                return

    async def _beat(self, kind: JobKind, attempt: Attempt) -> None:
        progress, checkpoint, before = attempt.progress, attempt.checkpoint, attempt.job
        settings, attempt.progress = self._context.settings, None
        worked = time.monotonic() - attempt.began if attempt.began else 0.0
        had_its_turn = kind.resumes and worked > settings.job_turn_seconds

        def change(store: Any) -> tuple[Job | None, Iterable[Event]]:
            queue, now = JobQueue(store.session), clock(store.session.connection())
            job = queue.heartbeat(before, now, settings.lease_seconds, progress, checkpoint)
            attempt.gives_way = job is not None and had_its_turn and queue.gives_way(job, now)
            report = kind.on_progress if job and progress else None
            return job, list(report(store, job, progress)) if report and job and progress else ()

        job = await self._context.transact(change)
        attempt.lost = job is None
        if job is None:
            return
        attempt.cancelled, attempt.job = job.cancel, job
        if checkpoint is not None:
            attempt.checkpoint = None if attempt.checkpoint is checkpoint else attempt.checkpoint
            old = checkpoints.superseded(before.checkpoint, checkpoint)
            await asyncio.to_thread(checkpoints.discard, self._context.artifacts, old)

    async def _conclude(self, kind: JobKind, attempt: Attempt, status: int) -> None:
        outcomes, outcome = self._outcomes, attempt.outcome
        if attempt.checkpoint is not None and not attempt.lost:
            await outcomes.until_written(attempt.job, lambda: self._beat(kind, attempt))
        job = attempt.job
        if attempt.lost:
            LOG.warning("job was taken over by another worker", job=job.id)
        elif "result" in outcome:
            await outcomes.done(kind, job, outcome["result"])
        elif attempt.cancelled:
            await outcomes.cancelled(kind, job, "while it ran")
        elif "failure" in outcome:
            await outcomes.failed(kind, job, Failure(**outcome["failure"]))
        elif self._stopping.is_set() or attempt.gives_way or "stopped" in outcome:
            await outcomes.given_back(job)
        else:
            await outcomes.failed(kind, job, failure_of(status))


def _prepare(folder: Path, job: Job) -> None:
    """The job's folder, without what a wish to cancel left of an earlier attempt, with its newest checkpoint's reference."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / workdirs.CANCEL).unlink(missing_ok=True)
    checkpoints.write_reference(folder, job.checkpoint)
