"""A job as services see it: its state, its kind, and what handlers may do with jobs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from contracts.envelope import Event
from services.chassis.jobs.failures import Failure


@dataclass(frozen=True, slots=True)
class Job:
    """A job as handlers see it. `status`: queued, running, done, failed or cancelled.

    `attempts` counts its leases; `code` and `detail` are its last failure, also while it waits for `retry_at`.
    """

    id: str
    kind: str
    project: str | None
    spec: dict[str, Any]
    status: str
    attempts: int
    created_at: datetime
    cancel: bool = False
    failures: int = 0
    crashes: int = 0
    worker_losses: int = 0
    retry_at: datetime | None = None
    checkpoint: dict[str, Any] | None = None
    token: int = 0
    progress: dict[str, Any] | None = None
    code: str | None = None
    detail: str | None = None
    finished_at: datetime | None = None
    traceparent: str | None = None
    """Of what queued it: what comes of the job goes on in that trace."""


OnDone = Callable[[Any, Job, dict[str, Any]], Iterable[Event]]
OnFailed = Callable[[Any, Job, Failure], Iterable[Event]]
OnProgress = Callable[[Any, Job, dict[str, Any]], Iterable[Event]]


@dataclass(frozen=True, slots=True)
class JobKind:
    """A kind of job: `target` is 'module:function', run in a child process.

    `resumes`: a child that is told to stop saves its state, so that it may give way to another project's job.
    `advice` says by a failure's code what a person can do, where this kind knows better than failures.ADVICE.
    """

    kind: str
    target: str
    on_done: OnDone
    on_failed: OnFailed
    on_progress: OnProgress | None = None
    resumes: bool = False
    advice: Mapping[str, str] = field(default_factory=dict[str, str])


class Jobs(Protocol):
    """What handlers do with jobs."""

    def enqueue(self, kind: str, id: str, spec: dict[str, Any], *, project: str | None = None) -> bool:
        """Records a job; False where one of this id exists already."""
        ...

    def cancel(self, id: str) -> bool:
        """Asks for the end of a queued or running job; False where it is over or unknown."""
        ...

    def cancel_queued(self, id: str, failure: Failure) -> Job | None:
        """The job, ended as cancelled now; None where it does not wait."""
        ...

    def never_leased(self, kind: str, project: str) -> list[str]:
        """Ids of the project's queued jobs that no worker has taken and nobody has queued anew, oldest first."""
        ...

    def retry_now(self, id: str) -> bool:
        """Ends the pause of a job that waits for its next try; False where it waits for none."""
        ...

    def restart(self, id: str, spec: dict[str, Any] | None = None) -> bool:
        """Queues a job anew that is over, from its checkpoint; with another `spec` where one is given."""
        ...

    def cancel_project(self, kind: str, project: str) -> None:
        """Asks for the end of every queued or running job of a kind that is a project's."""
        ...

    def get(self, id: str) -> Job | None:
        """The job, or None."""
        ...


def status_of(job: Job | None, otherwise: str) -> str:
    """`queued` or `running` where the job is not over, also one that somebody wants once more; else `otherwise`."""
    return job.status if job is not None and job.status in ("queued", "running") else otherwise


def tries_of(job: Job | None) -> dict[str, Any]:
    """`attempt` counts from 1; `retry_at` is when a job that waits is tried again, `last_error` why it is."""
    over = job is None or job.status not in ("queued", "running")
    error = None if job is None or over or job.code is None else {"code": job.code, "detail": job.detail}
    return {
        "attempt": job.attempts if job else None,
        "retry_at": job.retry_at.isoformat() if job and job.retry_at else None,
        "last_error": error,
    }
