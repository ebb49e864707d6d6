"""What prep keeps: accepted records, how far each project's have come, and the frozen datasets. Decides nothing."""

from datetime import datetime
from functools import cache
from typing import Any, Protocol, cast

from sqlalchemy import Table, func, tuple_
from sqlalchemy import select as select_rows
from sqlmodel import SQLModel, col, select

from contracts.canonical import canonical
from contracts.events.ingestion import RecordAcceptedV1
from services.chassis.jobs.queue import Jobs
from services.chassis.storage.bulk_insert import upserting
from services.chassis.storage.projects import Projects
from services.chassis.storage.store import ChassisStore
from services.prep.domain.rows import Accepted
from services.prep.tables import DatasetRow, ProgressRow, RecordRow


class Store(Protocol):
    """What handlers need of the database."""

    @property
    def projects(self) -> Projects:
        """The projects prep knows."""
        ...

    @property
    def jobs(self) -> Jobs:
        """The book of jobs."""
        ...

    def put(self, event: RecordAcceptedV1, at: datetime) -> bool:
        """Makes the event's revision the record's; False where a later one stands already."""
        ...

    def progress(self, project: str) -> ProgressRow:
        """How far the project has come, to be changed in this transaction."""
        ...

    def unfrozen(self) -> list[ProgressRow]:
        """The projects with records that no freeze has tried and with no freeze under way."""
        ...

    def changed(self, project: str, since: int, most: int | None = None) -> int:
        """How many records changed after the sequence `since`; counts no further than `most`."""
        ...

    def newest(self, project: str) -> DatasetRow | None:
        """The project's newest dataset."""
        ...

    def add(self, dataset: DatasetRow) -> None:
        """Keeps a dataset."""
        ...


class SqlStore(ChassisStore):
    """`Store` in the service's database, and what HTTP and the worker read."""

    def put(self, event: RecordAcceptedV1, at: datetime) -> bool:
        """Makes the event's revision the record's; False where a later one stands already."""
        progress = self.progress(event.project)
        values = {
            "project": event.project,
            "record_id": event.record_id,
            "revision": event.revision,
            "format": event.format,
            "record": canonical(event.record.model_dump(mode="json")),
            "digest": event.digest,
            "tags": canonical(event.tags),
            "subject": event.subject,
            "accepted_at": at,
            "sequence": progress.sequence + 1,
        }
        connection = self.session.connection()
        done = connection.execute(_upsert(connection.dialect.name), values)
        if done.rowcount == 1:
            progress.sequence += 1
        return done.rowcount == 1

    def progress(self, project: str) -> ProgressRow:
        """How far the project has come; its row is locked, so that sequences are in the order of commits."""
        held: dict[str, ProgressRow] = self.session.info.setdefault("progress", {})
        row = held.get(project)
        if row is None or row not in self.session:
            self._create(project)
            row = self.session.get_one(ProgressRow, project, with_for_update=True)
            held[project] = row
        return row

    def _create(self, project: str) -> None:
        zero = ProgressRow(project=project).model_dump(exclude_none=True)
        connection = self.session.connection()
        connection.execute(upserting(connection.dialect.name, ProgressRow).values(zero).on_conflict_do_nothing())

    def unfrozen(self) -> list[ProgressRow]:
        """The projects with records that no freeze has tried and with no freeze under way."""
        new = (col(ProgressRow.sequence) > col(ProgressRow.frozen), col(ProgressRow.sequence) > col(ProgressRow.tried))
        idle = col(ProgressRow.job).is_(None)
        statement = select(ProgressRow).where(*new, idle).order_by(col(ProgressRow.project))
        return list(self.session.exec(statement.with_for_update()).all())

    def changed(self, project: str, since: int, most: int | None = None) -> int:
        """How many records changed after the sequence `since`; counts no further than `most`."""
        later = select(RecordRow.record_id).where(RecordRow.project == project, RecordRow.sequence > since).limit(most)
        return self.session.exec(select(func.count()).select_from(later.subquery())).one()

    def total(self, project: str) -> int:
        """How many records the project has."""
        return self.session.exec(select(func.count()).select_from(RecordRow).where(RecordRow.project == project)).one()

    def latest(self, project: str, since: int, limit: int) -> list[RecordRow]:
        """The records that changed after `since`, newest change first."""
        later = select(RecordRow).where(RecordRow.project == project, RecordRow.sequence > since)
        return list(self.session.exec(later.order_by(col(RecordRow.sequence).desc()).limit(limit)).all())

    def accepted(self, project: str) -> tuple[list[Accepted], int]:
        """All records of the project and the newest sequence among them, 0 without any."""
        record = _table(RecordRow)
        names = (*Accepted.__dataclass_fields__, "sequence")
        statement = select_rows(*(record.c[name] for name in names)).where(record.c.project == project)
        rows = self.session.connection().execute(statement).all()
        return [Accepted(*list(row)[:-1]) for row in rows], max((row[-1] for row in rows), default=0)

    def newest(self, project: str) -> DatasetRow | None:
        """The project's newest dataset."""
        own = select(DatasetRow).where(DatasetRow.project == project)
        return self.session.exec(own.order_by(col(DatasetRow.number).desc()).limit(1)).first()

    def dataset(self, project: str, number: int) -> DatasetRow | None:
        """A dataset, or None."""
        return self.session.get(DatasetRow, (project, number))

    def datasets(self, project: str | None, after: tuple[datetime, str, int] | None, limit: int) -> list[DatasetRow]:
        """Datasets, newest first, from behind the place `after` on."""
        place = (col(DatasetRow.frozen_at), col(DatasetRow.project), col(DatasetRow.number))
        statement = select(DatasetRow).order_by(*(column.desc() for column in place)).limit(limit)
        if project is not None:
            statement = statement.where(DatasetRow.project == project)
        if after is not None:
            statement = statement.where(tuple_(*place) < after)
        return list(self.session.exec(statement).all())

    def failures(self, project: str | None) -> list[ProgressRow]:
        """The projects whose latest freeze failed."""
        statement = select(ProgressRow).where(col(ProgressRow.failure).is_not(None)).order_by(col(ProgressRow.project))
        if project is not None:
            statement = statement.where(ProgressRow.project == project)
        return list(self.session.exec(statement).all())

    def seen(self, project: str) -> ProgressRow | None:
        """How far the project has come, to look at."""
        return self.session.get(ProgressRow, project)

    def add(self, dataset: DatasetRow) -> None:
        """Keeps a dataset."""
        self.session.add(dataset)
        self.session.flush()


@cache
def _upsert(dialect: str) -> Any:
    """A record's newest revision in place of an older one. Built once: building it takes longer than running it."""
    insert = upserting(dialect, RecordRow)
    key = ["project", "record_id"]
    values = {column.name: insert.excluded[column.name] for column in _table(RecordRow).c if column.name not in key}
    newer = insert.excluded.revision > col(RecordRow.revision)
    upsert = insert.on_conflict_do_update(index_elements=key, set_=values, where=newer)
    # Without the option psycopg's count of an INSERT is not passed on.
    return upsert.execution_options(preserve_rowcount=True)


def _table(model: type[SQLModel]) -> Table:
    return cast(Table, getattr(model, "__table__"))  # noqa: B009 - SQLModel's types do not know the attribute
