"""The book of long jobs in the database: enqueue, lease with a fencing token, heartbeat, give back, complete.

Runs nothing: services.chassis.jobs.workers does.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import case, func, literal_column, update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from services.chassis.jobs import fair_share
from services.chassis.jobs.failures import Failure, RetryPolicy, pause
from services.chassis.jobs.job import Job
from services.chassis.observability import traces
from services.chassis.storage.projects import ProjectRevisions
from services.chassis.storage.tables import KEPT_CHECKPOINT, OPEN_JOB, JobRow

LONGEST_PAUSE = timedelta(hours=1)
"""No job waits longer for its next try, also where the clock was set back since."""
ANEW = {"failures": 0, "crashes": 0, "worker_losses": 0}
"""Nothing failed in a row."""
CHANGED = "noria_jobs_changed"
"""Key in Session.info: the transaction left something for the workers."""


class JobQueue:
    """`Jobs` in the service's database, and what the workers need."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def enqueue(self, kind: str, id: str, spec: dict[str, Any], *, project: str | None = None) -> bool:
        """Records a job; False where one of this id exists already."""
        if self._session.get(JobRow, id) is not None:
            return False
        self._session.info[CHANGED] = True
        self._take_part(kind, project or "")
        row = JobRow(id=id, kind=kind, project=project or "", spec=spec, created_at=datetime.now(UTC))
        row.traceparent = traces.current()
        self._session.add(row)
        self._session.flush()
        return True

    def _take_part(self, kind: str, project: str) -> None:
        connection = self._session.connection()
        if not fair_share.known(connection, kind, project):
            current = ProjectRevisions(self._session).current(project)
            fair_share.join(connection, kind, project, current[1].priority if current else "normal")

    def cancel(self, id: str) -> bool:
        """Asks for the end of a queued or running job; False where it is over or unknown."""
        row = self._session.get(JobRow, id)
        if row is None or row.status not in ("queued", "running"):
            return False
        row.cancel = self._session.info[CHANGED] = True
        row.retry_at = None
        self._session.add(row)
        return True

    def cancel_queued(self, id: str, failure: Failure) -> Job | None:
        """The job, ended as cancelled now; None where it does not wait."""
        ended = {"status": "cancelled", "cancel": True, "retry_at": None, "finished_at": datetime.now(UTC)}
        return (
            self.get(id) if self._change(id, ("queued",), **ended, code=failure.code, detail=failure.detail) else None
        )

    def never_leased(self, kind: str, project: str) -> list[str]:
        """Ids of the project's queued jobs that no worker has taken and nobody has queued anew, oldest first."""
        waiting = select(JobRow.id).where(JobRow.kind == kind, JobRow.project == project, JobRow.status == "queued")
        first = waiting.where(JobRow.token == 0).order_by(col(JobRow.created_at), col(JobRow.id))
        return list(self._session.exec(first).all())

    def retry_now(self, id: str) -> bool:
        """Ends the pause of a job that waits for its next try; False where it waits for none."""
        return self._change(id, ("queued",), col(JobRow.retry_at).is_not(None), retry_at=None)

    def restart(self, id: str, spec: dict[str, Any] | None = None) -> bool:
        """Queues a job anew that is over, from its checkpoint; with another `spec` where one is given."""
        counts = {"attempts": 0, **ANEW}
        fresh = {
            "status": "queued",
            "cancel": False,
            "retry_at": None,
            "finished_at": None,
            "code": None,
            "detail": None,
            "token": col(JobRow.token) + 1,
        }
        given = {} if spec is None else {"spec": spec, "checkpoint": None}
        return self._change(id, ("done", "failed", "cancelled"), **fresh, **counts, **given)

    def cancel_project(self, kind: str, project: str) -> None:
        """Asks for the end of every queued or running job of a kind that is a project's."""
        open_ = col(JobRow.status).in_(("queued", "running"))
        for id in self._session.exec(
            select(JobRow.id).where(JobRow.kind == kind, JobRow.project == project, open_)
        ).all():
            self.cancel(id)

    def get(self, id: str) -> Job | None:
        """The job, or None."""
        row = self._session.get(JobRow, id)
        return None if row is None else view(row)

    def lease(
        self, kind: str, owner: str, now: datetime, seconds: float, longest: timedelta = LONGEST_PAUSE
    ) -> Job | None:
        """The oldest free job of the project whose turn it is, held by `owner` from now on under a new token, or None.

        No pause is longer than `longest`: one that ends later was set by a clock that was ahead, and is cut.
        """
        until = now + timedelta(seconds=seconds)
        connection, latest = self._session.connection(), now + longest
        connection.execute(update(JobRow).where(*_lease_too_far(kind, until)).values(lease_until=until))
        connection.execute(update(JobRow).where(*_retry_too_far(kind, latest)).values(retry_at=latest))
        free = fair_share.next_free(kind, now).with_for_update(skip_locked=True, of=JobRow)
        row = self._session.exec(free).first()
        if row is None:
            return None
        row.worker_losses += row.status == "running"
        row.status, row.owner, row.token, row.attempts = "running", owner, row.token + 1, row.attempts + 1
        row.lease_until, row.retry_at, row.charged_at = until, None, now
        fair_share.begin_turn(connection, kind, row.project)
        self._session.add(row)
        self._session.flush()
        return view(row)

    def any_free(self, kind: str, now: datetime, seconds: float, longest: timedelta = LONGEST_PAUSE) -> bool:
        """Whether `lease` has something to do: a job of the kind is free, or its lease or pause must be cut."""
        too_far = (_lease_too_far(kind, now + timedelta(seconds=seconds)), _retry_too_far(kind, now + longest))
        queries = (fair_share.next_free(kind, now), *(select(JobRow).where(*which).limit(1) for which in too_far))
        return any(self._session.exec(query).first() is not None for query in queries)

    def reclaim(self, gone: Callable[[str], bool], now: datetime, policy: RetryPolicy) -> list[str]:
        """Frees the running jobs whose owner is gone, the second time in a row after a pause; their ids."""
        fair_share.join_all(self._session.connection())
        running = select(JobRow).where(literal_column(OPEN_JOB), JobRow.status == "running")
        rows = self._session.exec(running.with_for_update()).all()
        freed = [row for row in rows if row.owner and gone(row.owner)]
        for row in freed:
            row.status, row.owner, row.lease_until, row.worker_losses = "queued", None, None, row.worker_losses + 1
            if row.worker_losses > 1 and not row.cancel:
                row.retry_at = now + timedelta(seconds=pause(row.worker_losses - 1, policy))
            self._session.add(row)
        self._session.flush()
        return [row.id for row in freed]

    def counts(self) -> dict[tuple[str, str], int]:
        """Jobs that are not over, by (kind, status)."""
        query = select(JobRow.status, JobRow.kind, func.count()).where(literal_column(OPEN_JOB))
        grouped = query.group_by(col(JobRow.status), col(JobRow.kind))
        return {(kind, status): count for status, kind, count in self._session.exec(grouped)}

    def heartbeat(
        self,
        job: Job,
        now: datetime,
        seconds: float,
        progress: dict[str, Any] | None = None,
        checkpoint: dict[str, Any] | None = None,
    ) -> Job | None:
        """The job with its lease renewed, or None where it is no longer ours. With a checkpoint its tries count anew."""
        changes: dict[str, Any] = {"lease_until": now + timedelta(seconds=seconds), "charged_at": now}
        if progress is not None:
            changes["progress"] = progress
        if checkpoint is not None:
            changes |= {"checkpoint": checkpoint, "code": None, "detail": None, **ANEW}
        worked = self._worked(job, now)
        if not self._set(job, **changes):
            return None
        fair_share.charge(self._session.connection(), job.kind, job.project or "", worked)
        return self.get(job.id)

    def gives_way(self, job: Job, now: datetime) -> bool:
        """Whether another project's job waits whose turn is before this one's next."""
        return fair_share.others_turn(self._session.connection(), job.kind, job.project or "", now)

    def held(self, job: Job) -> Job | None:
        """The job as it stands now, locked, or None where it is no longer ours."""
        mine = select(JobRow).where(*_mine(job)).with_for_update()
        row = self._session.exec(mine).first()
        return None if row is None else view(row)

    def give_back(self, job: Job) -> bool:
        """Frees the job for another lease, as if it had not been leased; False where it is no longer ours."""
        return self._set(job, status="queued", owner=None, lease_until=None, attempts=job.attempts - 1)

    def retry_later(self, job: Job, failure: Failure, at: datetime, *, failures: int, crashes: int) -> bool:
        """Frees the job for another lease from `at` on, and keeps why; False where it is no longer ours."""
        why = {"code": failure.code, "detail": failure.detail, "failures": failures, "crashes": crashes}
        retry_at = case((col(JobRow.cancel), None), else_=at)  # whoever cancels shall not wait for the next try
        return self._set(job, status="queued", owner=None, lease_until=None, retry_at=retry_at, **why)

    def finish(self, job: Job, now: datetime, status: str, failure: Failure | None = None) -> bool:
        """Ends the job by compare-and-set on the token; False where it is no longer ours."""
        code, detail = (failure.code, failure.detail) if failure else (None, None)
        worked = self._worked(job, now)
        ended = {"status": status, "finished_at": now, "lease_until": None, "owner": None}
        kept = {} if failure else {"checkpoint": None}
        if not self._set(job, **ended, **kept, code=code, detail=detail):
            return False
        fair_share.charge(self._session.connection(), job.kind, job.project or "", worked)
        return True

    def _worked(self, job: Job, now: datetime) -> timedelta:
        """Time since the work was last charged, whatever the clock did never longer than the lease."""
        held = select(JobRow.charged_at, JobRow.lease_until).where(JobRow.id == job.id)
        charged, until = self._session.exec(held).first() or (None, None)
        return min(now, until) - charged if charged and until else timedelta(0)

    def ended(self, ids: Iterable[str]) -> dict[str, datetime | None]:
        """When each of the known jobs ended; None for one that is not over."""
        rows = self._session.exec(
            select(JobRow.id, JobRow.status, JobRow.finished_at).where(col(JobRow.id).in_(list(ids)))
        )
        return {id: None if status in ("queued", "running") else at for id, status, at in rows}

    def drop_checkpoints(self, before: datetime, limit: int = 100) -> list[dict[str, Any]]:
        """Forgets the checkpoints of jobs that ended before `before`, some at a time, and gives them."""
        rows = self._session.exec(kept_checkpoints(before).limit(limit).with_for_update(skip_locked=True)).all()
        dropped = [row.checkpoint for row in rows if row.checkpoint is not None]
        for row in rows:
            row.checkpoint = None
            self._session.add(row)
        self._session.flush()
        return dropped

    def _set(self, job: Job, **values: Any) -> bool:
        return self._update(_mine(job), values)

    def _change(self, id: str, statuses: tuple[str, ...], *conditions: Any, **values: Any) -> bool:
        self._session.info[CHANGED] = True
        return self._update((col(JobRow.id) == id, col(JobRow.status).in_(statuses), *conditions), values)

    def _update(self, conditions: tuple[Any, ...], values: dict[str, Any]) -> bool:
        result = self._session.connection().execute(update(JobRow).where(*conditions).values(**values))
        self._session.expire_all()
        return result.rowcount == 1


def kept_checkpoints(before: datetime) -> SelectOfScalar[JobRow]:
    """Jobs that ended before `before` whose checkpoint is kept, by the index `job_checkpoint`."""
    return select(JobRow).where(literal_column(KEPT_CHECKPOINT), col(JobRow.finished_at) < before)


def _mine(job: Job) -> tuple[Any, ...]:
    return col(JobRow.id) == job.id, col(JobRow.token) == job.token, col(JobRow.status) == "running"


def _lease_too_far(kind: str, until: datetime) -> tuple[Any, ...]:
    """Leases further ahead than any given now: the clock was set back since. A live holder renews a cut one in time."""
    return JobRow.kind == kind, col(JobRow.status) == "running", col(JobRow.lease_until) > until


def _retry_too_far(kind: str, latest: datetime) -> tuple[Any, ...]:
    """Pauses that end later than any given now: the clock was set back since."""
    return JobRow.kind == kind, col(JobRow.status) == "queued", col(JobRow.retry_at) > latest


def view(row: JobRow) -> Job:
    """The row as handlers see it."""
    values: dict[str, Any] = {name: getattr(row, name) for name in Job.__dataclass_fields__}
    values["project"] = row.project or None
    return Job(**values)
