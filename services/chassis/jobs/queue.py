"""The book of long jobs in the database: enqueue, lease with a fencing token, heartbeat, give back, complete.

Runs nothing: services.chassis.jobs.workers does.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import and_, func, or_, update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from contracts.envelope import Event
from services.chassis.storage.database import storable
from services.chassis.storage.tables import JobRow

LONGEST_PAUSE = timedelta(hours=1)
"""No job waits longer for its next try, also where the clock was set back since."""
CHANGED = "noria_jobs_changed"
"""Key in Session.info: the transaction left something for the workers."""


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


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no result. `code` is a stable word: internal, out_of_memory, crashed, cancelled or the job's own."""

    code: str
    detail: str

    def __post_init__(self) -> None:
        # What a library said may hold what no database and no event takes; the job must end none the less.
        object.__setattr__(self, "detail", storable(self.detail))


OnDone = Callable[[Any, Job, dict[str, Any]], Iterable[Event]]
OnFailed = Callable[[Any, Job, Failure], Iterable[Event]]
OnProgress = Callable[[Any, Job, dict[str, Any]], Iterable[Event]]


@dataclass(frozen=True, slots=True)
class JobKind:
    """A kind of job: `target` is 'module:function', run in a child process, at most `slots` at once."""

    kind: str
    target: str
    on_done: OnDone
    on_failed: OnFailed
    on_progress: OnProgress | None = None
    slots: int = 1


class Jobs(Protocol):
    """What handlers do with jobs."""

    def enqueue(self, kind: str, id: str, spec: dict[str, Any], *, project: str | None = None) -> bool:
        """Records a job; False where one of this id exists already."""
        ...

    def cancel(self, id: str) -> bool:
        """Asks for the end of a queued or running job; False where it is over or unknown."""
        ...

    def get(self, id: str) -> Job | None:
        """The job, or None."""
        ...


class JobQueue:
    """`Jobs` in the service's database, and what the workers need."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def enqueue(self, kind: str, id: str, spec: dict[str, Any], *, project: str | None = None) -> bool:
        """Records a job; False where one of this id exists already."""
        if self._session.get(JobRow, id) is not None:
            return False
        self._session.info[CHANGED] = True
        self._session.add(JobRow(id=id, kind=kind, project=project, spec=spec, created_at=datetime.now(UTC)))
        self._session.flush()
        return True

    def cancel(self, id: str) -> bool:
        """Asks for the end of a queued or running job; False where it is over or unknown."""
        row = self._session.get(JobRow, id)
        if row is None or row.status not in ("queued", "running"):
            return False
        row.cancel = self._session.info[CHANGED] = True
        row.retry_at = None
        self._session.add(row)
        return True

    def get(self, id: str) -> Job | None:
        """The job, or None."""
        row = self._session.get(JobRow, id)
        return None if row is None else view(row)

    def lease(self, kind: str, owner: str, now: datetime, seconds: float) -> Job | None:
        """The oldest free job of a kind, held by `owner` from now on under a new token; None where there is none."""
        until = now + timedelta(seconds=seconds)
        connection, latest = self._session.connection(), now + LONGEST_PAUSE
        connection.execute(update(JobRow).where(*_lease_too_far(kind, until)).values(lease_until=until))
        connection.execute(update(JobRow).where(*_retry_too_far(kind, latest)).values(retry_at=latest))
        row = self._session.exec(_free(kind, now).with_for_update(skip_locked=True)).first()
        if row is None:
            return None
        row.worker_losses += row.status == "running"
        row.status, row.owner, row.token, row.attempts = "running", owner, row.token + 1, row.attempts + 1
        row.lease_until, row.retry_at = until, None
        self._session.add(row)
        self._session.flush()
        return view(row)

    def any_free(self, kind: str, now: datetime, seconds: float) -> bool:
        """Whether `lease` has something to do: a job of the kind is free, or its lease or pause must be cut."""
        too_far = (_lease_too_far(kind, now + timedelta(seconds=seconds)), _retry_too_far(kind, now + LONGEST_PAUSE))
        queries = (_free(kind, now), *(select(JobRow).where(*which).limit(1) for which in too_far))
        return any(self._session.exec(query).first() is not None for query in queries)

    def reclaim(self, gone: Callable[[str], bool]) -> list[str]:
        """Frees the running jobs whose owner is gone; their ids."""
        rows = self._session.exec(select(JobRow).where(JobRow.status == "running").with_for_update()).all()
        freed = [row for row in rows if row.owner and gone(row.owner)]
        for row in freed:
            row.status, row.owner, row.lease_until, row.worker_losses = "queued", None, None, row.worker_losses + 1
            self._session.add(row)
        self._session.flush()
        return [row.id for row in freed]

    def counts(self) -> dict[tuple[str, str], int]:
        """Jobs by (kind, status)."""
        query = select(JobRow.kind, JobRow.status, func.count()).group_by(JobRow.kind, JobRow.status)
        return {(kind, status): count for kind, status, count in self._session.exec(query)}

    def heartbeat(self, job: Job, now: datetime, seconds: float, progress: dict[str, Any] | None = None) -> Job | None:
        """The job with its lease renewed, or None where it is no longer ours."""
        changes: dict[str, Any] = {"lease_until": now + timedelta(seconds=seconds)}
        if progress is not None:
            changes["progress"] = progress
        return self.get(job.id) if self._set(job, **changes) else None

    def give_back(self, job: Job, *, crashed: bool) -> bool:
        """Frees the job for another lease; False where it is no longer ours."""
        counts = {"crashes": job.crashes + 1} if crashed else {"attempts": job.attempts - 1}
        return self._set(job, status="queued", owner=None, lease_until=None, **counts)

    def finish(self, job: Job, now: datetime, status: str, failure: Failure | None = None) -> bool:
        """Ends the job by compare-and-set on the token; False where it is no longer ours."""
        code, detail = (failure.code, failure.detail) if failure else (None, None)
        return self._set(job, status=status, finished_at=now, lease_until=None, owner=None, code=code, detail=detail)

    def _set(self, job: Job, **values: Any) -> bool:
        mine = (col(JobRow.id) == job.id, col(JobRow.token) == job.token, col(JobRow.status) == "running")
        result = self._session.connection().execute(update(JobRow).where(*mine).values(**values))
        self._session.expire_all()
        return result.rowcount == 1


def _free(kind: str, now: datetime) -> SelectOfScalar[JobRow]:
    waits = and_(col(JobRow.status) == "queued", or_(col(JobRow.retry_at).is_(None), col(JobRow.retry_at) <= now))
    free = or_(waits, and_(col(JobRow.status) == "running", col(JobRow.lease_until) < now))
    due = select(JobRow).where(JobRow.kind == kind, col(JobRow.status).in_(("queued", "running")), free)
    return due.order_by(col(JobRow.created_at), col(JobRow.id)).limit(1)


def _lease_too_far(kind: str, until: datetime) -> tuple[Any, ...]:
    """Leases further ahead than any given now: the clock was set back since. A live holder renews a cut one in time."""
    return JobRow.kind == kind, col(JobRow.status) == "running", col(JobRow.lease_until) > until


def _retry_too_far(kind: str, latest: datetime) -> tuple[Any, ...]:
    """Pauses that end later than any given now: the clock was set back since."""
    return JobRow.kind == kind, col(JobRow.status) == "queued", col(JobRow.retry_at) > latest


def view(row: JobRow) -> Job:
    """The row as handlers see it."""
    return Job(**{name: getattr(row, name) for name in Job.__dataclass_fields__})
