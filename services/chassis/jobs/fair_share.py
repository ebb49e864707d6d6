"""Which project's job comes next: projects take turns by the seconds of work they had, weighted by priority.

Start-time fair queueing (Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996, section 2): a turn begins at
max(the project's virtual time, the latest beginning of any turn) and moves the project's virtual time on by seconds of
work / weight; the free job with the earliest beginning is next. An idle project saves nothing up and owes nothing new.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, case, func, literal, literal_column, or_, select, update
from sqlalchemy.orm import aliased
from sqlmodel import col
from sqlmodel import select as select_model
from sqlmodel.sql.expression import SelectOfScalar

from services.chassis.storage.bulk.insert import upserting
from services.chassis.storage.tables import OPEN_JOB, FairShare, JobRow

SHARE: Table = getattr(FairShare, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
WEIGHTS = {"low": 1.0, "normal": 4.0, "high": 16.0}
"""Seconds of work that projects of these priorities get of 21 while all of them wait."""
LEAST_SECONDS = 1.0
"""What a lease costs at once, so that several slots do not all go to one project and tiny jobs are not free."""


def next_free(kind: str, now: datetime) -> SelectOfScalar[JobRow]:
    """The oldest free job of the project whose turn it is.

    One look into the index `job_turn` for each project that ever had a job of the kind, however many jobs wait.
    """
    queued, expired = aliased(JobRow), aliased(JobRow)
    first = func.coalesce(_oldest(expired, _expired(expired, now)), _oldest(queued, _queued(queued, now)))
    own = and_(col(FairShare.kind) == kind, col(JobRow.kind) == kind)
    found = select_model(JobRow).join(FairShare, col(FairShare.project) == col(JobRow.project))
    # The outer condition is for PostgreSQL: it looks at it again where another instance took the row meanwhile.
    found = found.where(own, col(JobRow.id) == first, or_(_queued(JobRow, now), _expired(JobRow, now)))
    return found.order_by(_begin(kind), col(JobRow.created_at), col(JobRow.id)).limit(1)


def _queued(job: Any, now: datetime) -> ColumnElement[bool]:
    return and_(job.status == "queued", or_(job.retry_at.is_(None), job.retry_at <= now))


def _expired(job: Any, now: datetime) -> ColumnElement[bool]:
    return and_(job.status == "running", job.lease_until < now)


def _oldest(job: Any, free: ColumnElement[bool]) -> Any:
    same = (job.kind == FairShare.kind, job.project == FairShare.project)
    return (
        select(job.id)
        .where(*same, free)
        .order_by(job.created_at, job.id)
        .limit(1)
        .correlate(FairShare)
        .scalar_subquery()
    )


def _latest(kind: str) -> Any:
    return select(func.max(SHARE.c.virtual_start)).where(SHARE.c.kind == kind).scalar_subquery()


def _begin(kind: str) -> ColumnElement[float]:
    """Where the project's next turn would begin on the virtual clock."""
    latest = func.coalesce(_latest(kind), literal(0.0))
    return case((col(FairShare.virtual_time) > latest, col(FairShare.virtual_time)), else_=latest)


def join(connection: Connection, kind: str, project: str, priority: str) -> None:
    """Lets a project take turns; one that does already is left as it is."""
    values = {"kind": kind, "project": project, "priority": priority, "virtual_time": 0.0, "virtual_start": 0.0}
    connection.execute(upserting(connection.dialect.name, SHARE).values(values).on_conflict_do_nothing())


def join_all(connection: Connection) -> None:
    """Lets every project with a job take turns: jobs of a release that knew no turns, while both run."""
    kind, project = col(JobRow.kind), col(JobRow.project)
    member = select(SHARE.c.kind).where(SHARE.c.kind == kind, SHARE.c.project == project).exists()
    queued = (literal_column(OPEN_JOB), col(JobRow.status) == "queued")
    waiting = select(kind, project).where(*queued, ~member).distinct()
    for kind, project in connection.execute(waiting).all():
        join(connection, kind, project, "normal")


def known(connection: Connection, kind: str, project: str) -> bool:
    """Whether the project takes turns already."""
    return connection.execute(select(SHARE.c.kind).where(*_of(kind, project))).first() is not None


def begin_turn(connection: Connection, kind: str, project: str) -> None:
    """Notes that a job of the project was leased."""
    begin = connection.execute(select(_begin(kind)).where(*_of(kind, project))).scalar_one()
    values = {"virtual_start": begin, "virtual_time": begin + LEAST_SECONDS / _weight(connection, kind, project)}
    connection.execute(update(SHARE).where(*_of(kind, project)).values(**values))


def charge(connection: Connection, kind: str, project: str, worked: timedelta) -> None:
    """Adds work to what the project had."""
    cost = max(0.0, worked.total_seconds()) / _weight(connection, kind, project)
    changed = update(SHARE).where(*_of(kind, project)).values(virtual_time=SHARE.c.virtual_time + cost)
    connection.execute(changed)


def others_turn(connection: Connection, kind: str, project: str, now: datetime) -> bool:
    """Whether a job of another project waits whose turn would begin before this project's next one."""
    # By the shares' project, not the job's: the databases begin with the few shares then, and look up each one's job.
    free = next_free(kind, now).with_only_columns(col(FairShare.project), _begin(kind)).order_by(None)
    first = connection.execute(free.where(col(FairShare.project) != project).order_by(_begin(kind)).limit(1)).first()
    mine = connection.execute(select(SHARE.c.virtual_time).where(*_of(kind, project))).scalar()
    return first is not None and (mine is None or first[1] <= mine)


def _weight(connection: Connection, kind: str, project: str) -> float:
    priority = connection.execute(select(SHARE.c.priority).where(*_of(kind, project))).scalar_one_or_none()
    return WEIGHTS.get(priority or "normal", WEIGHTS["normal"])


def _of(kind: str, project: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return SHARE.c.kind == kind, SHARE.c.project == project
