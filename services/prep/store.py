"""What prep keeps: accepted records, how far each project's have come, and the frozen datasets. Decides nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import exists, func, literal, tuple_, update
from sqlalchemy import select as select_rows
from sqlmodel import Session, col, select

from contracts.canonical import canonical
from contracts.events.ingestion import RecordAcceptedV1
from contracts.kinds import KINDS
from contracts.records import canonical_record
from services.chassis.jobs.job import Jobs
from services.chassis.storage.bulk.insert import insert, moment, upserting
from services.chassis.storage.bulk.sharded_rows import lock_free_shard
from services.chassis.storage.projects import Projects
from services.chassis.storage.store import ChassisStore
from services.prep import segments
from services.prep.domain.positions import Positions
from services.prep.domain.reading import kind_of
from services.prep.segments import TAIL
from services.prep.tables import PROGRESS, RECORD, SHARD, DatasetRow, ProgressRow, RecordRow

COUNTED = 100_000
"""Records of a kind that are counted: milliseconds of its index, however many there are."""
Put = tuple[RecordAcceptedV1, datetime]
"""A revision and when it was accepted."""


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

    def put(self, event: RecordAcceptedV1, at: datetime) -> None:
        """Makes the event's revision the record's, unless a later one stands."""
        ...

    def positions(self, project: str) -> Positions:
        """How far the project's changes have come."""
        ...

    def progress(self, project: str) -> ProgressRow:
        """How far the project's datasets have come, to be changed in this transaction."""
        ...

    def unfrozen(self) -> list[tuple[ProgressRow, Positions]]:
        """The projects with records that no freeze has tried and with no freeze under way, and how far they have come."""
        ...

    def changed(self, project: str, since: Positions, most: int | None = None) -> int:
        """How many records changed after `since`; counts no further than `most`."""
        ...

    def newest(self, project: str) -> DatasetRow | None:
        """The project's newest dataset."""
        ...

    def add(self, dataset: DatasetRow) -> None:
        """Keeps a dataset."""
        ...

    def compact(self, project: str, made: Sequence[Mapping[str, Any]], gone: Sequence[int]) -> list[str]:
        """Has records lie in new segments, see segments.take_in; gives the digests of all the project's segments."""
        ...


class SqlStore(ChassisStore):
    """`Store` in the service's database, and what HTTP and the worker read. Records are written together, by `flush`."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._put: dict[str, dict[str, Put]] = {}

    def put(self, event: RecordAcceptedV1, at: datetime) -> None:
        """Makes the event's revision the record's, unless a later one stands; written by `flush`."""
        records = self._put.setdefault(event.project, {})
        held = records.pop(event.record_id, None)
        records[event.record_id] = held if held and held[0].revision >= event.revision else (event, at)

    def flush(self) -> None:
        """Writes the records in the order of their keys, so that no two instances deadlock; numbered as they came."""
        put, self._put = self._put, {}
        for project, records in sorted(put.items()):
            self._write(project, list(records.values()))

    def _write(self, project: str, records: Sequence[Put]) -> None:
        """A shard of the project's numbers the changes; no other transaction waits for it."""
        connection = self.session.connection()
        shard = lock_free_shard(connection, SHARD, project=project)
        own = (SHARD.c.project == project, SHARD.c.shard == shard)
        before = connection.execute(select_rows(SHARD.c.sequence).where(*own)).scalar_one()
        told = [(event, at, canonical_record(event.record)) for event, at in records]
        rows = [
            (
                project,
                event.record_id,
                event.revision,
                event.format,
                text,
                event.digest,
                canonical(event.tags),
                event.subject,
                moment(connection, at),
                shard,
                before + number,
                event.shape,
                None if event.sent is None else canonical(event.sent),
                kind_of(event.format, text),
            )
            for number, (event, at, text) in enumerate(told, 1)
        ]
        now = before + len(rows)
        if insert(connection, RECORD, COLUMNS, sorted(rows), NEWER) != len(rows):  # a later revision of some stood
            mine = (RECORD.c.project == project, RECORD.c.shard == shard, TAIL)
            now = connection.execute(select_rows(func.max(RECORD.c.sequence)).where(*mine)).scalar() or 0
        if now > before:
            connection.execute(update(SHARD).where(*own).values(sequence=now))

    def positions(self, project: str) -> Positions:
        """How far the project's changes have come."""
        own = select_rows(SHARD.c.shard, SHARD.c.sequence).where(SHARD.c.project == project)
        return {str(shard): sequence for shard, sequence in self.session.connection().execute(own)}

    def progress(self, project: str) -> ProgressRow:
        """How far the project's datasets have come; its row is locked, for whoever asks for a freeze or ends one."""
        self._create(select_rows(literal(project).label("project")))
        return self.session.get_one(ProgressRow, project, with_for_update=True)

    def _create(self, projects: Any) -> None:
        """Rows for those of `projects`, a query, that have none."""
        new = projects.subquery()
        zero = {name: literal(value, PROGRESS.c[name].type) for name, value in ZERO.items()}
        missing = select_rows(new.c.project, *zero.values()).where(~exists().where(PROGRESS.c.project == new.c.project))
        connection = self.session.connection()
        insert = upserting(connection.dialect.name, PROGRESS).from_select(["project", *zero], missing)
        connection.execute(insert.on_conflict_do_nothing())

    def unfrozen(self) -> list[tuple[ProgressRow, Positions]]:
        """The projects with records that no freeze has tried and with no freeze under way, and how far they have come."""
        self._create(select_rows(SHARD.c.project).distinct())
        totals = select_rows(SHARD.c.project, func.sum(SHARD.c.sequence).label("total")).group_by(SHARD.c.project)
        found = totals.subquery()
        new = found.c.total > col(ProgressRow.tried)
        statement = select(ProgressRow).join(found, found.c.project == col(ProgressRow.project))
        idle = statement.where(new, col(ProgressRow.job).is_(None)).order_by(col(ProgressRow.project))
        rows = self.session.exec(idle.with_for_update(of=ProgressRow)).all()
        return [(row, self.positions(row.project)) for row in rows]

    def changed(self, project: str, since: Positions, most: int | None = None) -> int:
        """How many records changed after `since`; counts no further than `most`."""
        found = 0
        for shard, sequence in self.positions(project).items():
            left = None if most is None else most - found
            if sequence > since.get(shard, 0) and left != 0:
                later = select_rows(RECORD.c.record_id).where(*_after(project, shard, since)).limit(left)
                found += (
                    self.session.connection()
                    .execute(select_rows(func.count()).select_from(later.subquery()))
                    .scalar_one()
                )
        return found

    def has_records(self, project: str) -> bool:
        """Whether the project has a record."""
        return (
            self.session.exec(select(RecordRow.record_id).where(RecordRow.project == project).limit(1)).first()
            is not None
        )

    def total(self, project: str) -> int:
        """How many records the project has."""
        return self.session.exec(select(func.count()).select_from(RecordRow).where(RecordRow.project == project)).one()

    def kinds(self, project: str) -> dict[str, int]:
        """How many records of each kind the project has; of each it counts no further than COUNTED."""
        found: dict[str, int] = {}
        for kind in KINDS:
            own = select_rows(RECORD.c.kind).where(RECORD.c.project == project, RECORD.c.kind == kind).limit(COUNTED)
            counted = select_rows(func.count()).select_from(own.subquery())
            if n := self.session.connection().execute(counted).scalar_one():
                found[kind] = n
        return found

    def latest(self, project: str, since: Positions, limit: int) -> list[RecordRow]:
        """The records that changed after `since`, newest change first."""
        found: list[RecordRow] = []
        for shard in self.positions(project):
            later = select(RecordRow).where(*_after(project, shard, since))
            found += self.session.exec(later.order_by(col(RecordRow.sequence).desc()).limit(limit)).all()
        return sorted(found, key=lambda row: (row.accepted_at, row.sequence), reverse=True)[:limit]

    def newest(self, project: str) -> DatasetRow | None:
        """The project's newest dataset."""
        own = select(DatasetRow).where(DatasetRow.project == project)
        return self.session.exec(own.order_by(col(DatasetRow.number).desc()).limit(1)).first()

    def dataset(self, project: str, number: int) -> DatasetRow | None:
        """A dataset, or None."""
        return self.session.get(DatasetRow, (project, number))

    def datasets(
        self, project: str | None, after: tuple[datetime, str, int] | None, limit: int, *conditions: Any
    ) -> list[DatasetRow]:
        """Datasets of which the conditions hold, newest first, from behind the place `after` on."""
        place = (col(DatasetRow.frozen_at), col(DatasetRow.project), col(DatasetRow.number))
        statement = select(DatasetRow).where(*conditions).order_by(*(column.desc() for column in place)).limit(limit)
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

    def compact(self, project: str, made: Sequence[Mapping[str, Any]], gone: Sequence[int]) -> list[str]:
        """Has records lie in new segments, see segments.take_in; gives the digests of all the project's segments."""
        connection = self.session.connection()
        segments.take_in(connection, project, made, gone)
        return [segment.artifact.sha256 for segment in segments.segments(connection, project)]


def _after(project: str, shard: str, since: Positions) -> tuple[Any, ...]:
    # Freezes alone compact, and what they took in is no change any more: changes lie in the tail.
    return (RECORD.c.project == project, RECORD.c.shard == int(shard), RECORD.c.sequence > since.get(shard, 0), TAIL)


ZERO = ProgressRow(project="").model_dump(exclude={"project"}, exclude_none=True)
COLUMNS = (
    *("project", "record_id", "revision", "format", "record", "digest", "tags", "subject", "accepted_at"),
    *("shard", "sequence", "shape", "sent", "kind"),
)
NEWER = """
ON CONFLICT (project, record_id) DO UPDATE SET revision = excluded.revision, format = excluded.format,
record = excluded.record, digest = excluded.digest, tags = excluded.tags, subject = excluded.subject,
accepted_at = excluded.accepted_at, shard = excluded.shard, sequence = excluded.sequence, shape = excluded.shape,
sent = excluded.sent, kind = excluded.kind, segment = NULL
WHERE excluded.revision > record.revision
"""
