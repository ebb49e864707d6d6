"""What ingestion keeps: each record's revision and fingerprint, tallies, and submissions that wait for their project.

Holds no record's content: that is in the topics and in prep.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from sqlalchemy import Column, MetaData, Text, and_, bindparam, delete, func, update
from sqlmodel import Field, SQLModel, col, select

from contracts.events.upstream import RecordSubmittedV1
from services.chassis.storage.bulk_insert import upserting
from services.chassis.storage.projects import Projects
from services.chassis.storage.store import ChassisStore
from services.chassis.storage.tables import NUMBER, UtcDateTime

METADATA = MetaData()


class RecordRow(SQLModel, table=True):
    """The newest revision of a record."""

    __tablename__ = "record"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    record_id: str = Field(primary_key=True)
    revision: int
    fingerprint: str


class TallyRow(SQLModel, table=True):
    """How often a project's submissions ended so: `unchanged`, or `refused.<reason>`."""

    __tablename__ = "tally"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    n: int


class WaitingRow(SQLModel, table=True):
    """A submission whose project is not known yet."""

    __tablename__ = "waiting"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    number: int | None = Field(default=None, sa_column=Column(NUMBER, primary_key=True, autoincrement=True))
    project: str
    submitted: str = Field(sa_column=Column(Text, nullable=False))
    source: str
    source_id: str
    refuse_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest revision of a record."""

    revision: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Submission:
    """What was submitted and the identity (source, id) of the event that did."""

    submitted: RecordSubmittedV1
    source: str
    source_id: str


class Store(Protocol):
    """What handlers need of the database."""

    @property
    def projects(self) -> Projects:
        """The projects ingestion knows."""
        ...

    def knows(self, project: str) -> bool:
        """Whether the project was defined."""
        ...

    def standing(self, project: str, record_id: str) -> Standing | None:
        """The record's newest revision, or None."""
        ...

    def put(self, project: str, record_id: str, standing: Standing) -> None:
        """Makes `standing` the record's newest revision."""
        ...

    def count(self, project: str, outcome: str) -> None:
        """One more submission ended so."""
        ...

    def counts(self, project: str) -> dict[str, Any]:
        """Accepted (revisions), records, unchanged, refused, refused_by_reason."""
        ...

    def wait(self, submission: Submission) -> None:
        """Keeps a submission until its project is known or `overdue` gives it up."""
        ...

    def take_waiting(self, project: str) -> list[Submission]:
        """The project's waiting submissions in the order of arrival; they wait no more."""
        ...

    def overdue(self, now: datetime, until: datetime) -> list[Submission]:
        """Submissions that waited long enough; those not seen before wait `until` then."""
        ...


class SqlStore(ChassisStore):
    """`Store` in the service's database."""

    def knows(self, project: str) -> bool:
        """Whether the project was defined; asked once a transaction where it was."""
        known: set[str] = self.session.info.setdefault("known_projects", set())
        if project not in known and self.projects.current(project) is not None:
            known.add(project)
        return project in known

    def standing(self, project: str, record_id: str) -> Standing | None:
        """The record's newest revision, or None."""
        found = self.session.connection().execute(STANDING, {"project": project, "record_id": record_id}).first()
        return Standing(*found) if found else None

    def put(self, project: str, record_id: str, standing: Standing) -> None:
        """Makes `standing` the record's newest revision."""
        values = {"revision": standing.revision, "fingerprint": standing.fingerprint}
        self._execute(_put, {"project": project, "record_id": record_id, **values})

    def count(self, project: str, outcome: str) -> None:
        """One more submission ended so."""
        self._execute(_count, {"project": project, "outcome": outcome, "n": 1})

    def counts(self, project: str) -> dict[str, Any]:
        """Accepted (revisions), records, unchanged, refused, refused_by_reason."""
        sums = select(func.coalesce(func.sum(RecordRow.revision), 0), func.count()).where(RecordRow.project == project)
        accepted, records = self.session.exec(sums).one()
        tallies = self.session.exec(select(TallyRow.outcome, TallyRow.n).where(TallyRow.project == project)).all()
        refused = {name.removeprefix("refused."): n for name, n in sorted(tallies) if name.startswith("refused.")}
        return {
            "accepted": int(accepted),
            "records": records,
            "unchanged": dict(tallies).get("unchanged", 0),
            "refused": sum(refused.values()),
            "refused_by_reason": refused,
        }

    def wait(self, submission: Submission) -> None:
        """Keeps a submission until its project is known or `overdue` gives it up."""
        event = submission.submitted
        row = WaitingRow(
            project=event.project,
            submitted=event.model_dump_json(),
            source=submission.source,
            source_id=submission.source_id,
        )
        self.session.add(row)

    def take_waiting(self, project: str) -> list[Submission]:
        """The project's waiting submissions in the order of arrival; they wait no more."""
        return self._take(col(WaitingRow.project) == project)

    def overdue(self, now: datetime, until: datetime) -> list[Submission]:
        """Submissions that waited long enough; those not seen before wait `until` then."""
        if self.session.exec(select(WaitingRow.number).limit(1)).first() is None:
            return []
        new = update(WaitingRow).where(col(WaitingRow.refuse_at).is_(None)).values(refuse_at=until)
        self.session.connection().execute(new)
        return self._take(col(WaitingRow.refuse_at) <= now)

    def stop_waiting(self, source: str, source_id: str) -> bool:
        """Whether that submission waited; it does no more."""
        return bool(self._take(and_(col(WaitingRow.source) == source, col(WaitingRow.source_id) == source_id)))

    def _take(self, which: Any) -> list[Submission]:
        # Locked, since another instance's timer looks for the same and shall not take them too.
        waiting = select(WaitingRow).where(which).order_by(col(WaitingRow.number)).with_for_update()
        rows = self.session.exec(waiting).all()
        if rows:
            self.session.connection().execute(delete(WaitingRow).where(which))
        return [
            Submission(RecordSubmittedV1.model_validate_json(row.submitted), row.source, row.source_id) for row in rows
        ]

    def _execute(self, statement: Callable[[str], Any], values: dict[str, Any]) -> None:
        connection = self.session.connection()
        connection.execute(statement(connection.dialect.name), values)


# Statements are built once: building one takes longer than running it.
STANDING = select(RecordRow.revision, RecordRow.fingerprint).where(
    col(RecordRow.project) == bindparam("project"), col(RecordRow.record_id) == bindparam("record_id")
)


@cache
def _put(dialect: str) -> Any:
    insert = upserting(dialect, RecordRow)
    values = {"revision": insert.excluded.revision, "fingerprint": insert.excluded.fingerprint}
    return insert.on_conflict_do_update(index_elements=["project", "record_id"], set_=values)


@cache
def _count(dialect: str) -> Any:
    more = {"n": col(TallyRow.n) + 1}
    return upserting(dialect, TallyRow).on_conflict_do_update(index_elements=["project", "outcome"], set_=more)
