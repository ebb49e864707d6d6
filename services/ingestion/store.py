"""What ingestion keeps: each record's revision and fingerprint, counters, and submissions that wait for their project.

Holds no record's content: that is in the topics and in prep.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Table, and_, delete, func, update
from sqlmodel import Session, col, select

from contracts.envelope import Event
from contracts.events.upstream import RecordSubmittedV1
from services.chassis.storage.bulk.insert import execute_each, insert
from services.chassis.storage.bulk.select import rows_by_pair
from services.chassis.storage.bulk.sharded_rows import lock_free_shard
from services.chassis.storage.database import WriteConflict
from services.chassis.storage.projects import Projects
from services.chassis.storage.store import ChassisStore
from services.ingestion.domain.policy import LETS_ALL_IN, Policy, policy_of
from services.ingestion.tables import CounterRow, RecordRow, WaitingRow

Key = tuple[str, str]
"""(project, record_id)."""


@dataclass(frozen=True, slots=True)
class CurrentRevision:
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

    def policy(self, project: str) -> Policy:
        """What the project's `ingest` says."""
        ...

    def current(self, project: str, record_id: str) -> CurrentRevision | None:
        """The record's newest revision, or None."""
        ...

    def put(self, project: str, record_id: str, revision: CurrentRevision) -> None:
        """Makes `revision` the record's newest revision."""
        ...

    def count(self, project: str, outcome: str) -> None:
        """One more submission ended so."""
        ...

    def counts(self, project: str) -> dict[str, Any]:
        """Accepted (revisions), records, unchanged, not_sampled, refused, refused_by_reason."""
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
    """`Store` in the service's database. Revisions and counters are written together, by `flush`."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._known: dict[str, Policy] = {}
        self._read: dict[Key, CurrentRevision | None] = {}
        self._written: dict[Key, CurrentRevision] = {}
        self._tallies: Counter[tuple[str, str]] = Counter()

    def prefetch(self, events: Sequence[Event]) -> None:
        """Reads the current revisions of the records that these events submit, in one query."""
        wanted = {(event.project, event.record_id) for event in events if isinstance(event, RecordSubmittedV1)}
        found = rows_by_pair(self.session.connection(), RECORD, ("project", "record_id"), wanted)
        self._read |= dict.fromkeys(wanted) | {(row.project, row.record_id): _current_revision(row) for row in found}

    def flush(self) -> None:
        """Writes the revisions, then the counters, in the order of their keys, so that no two instances deadlock.

        Raises:
            WriteConflict: another instance gave one of the records a revision meanwhile.
        """
        connection = self.session.connection()
        rows = sorted(self._written.items())
        new = [(*key, put.revision, put.fingerprint) for key, put in rows if not self._base(key)]
        later = [(put.revision, put.fingerprint, *key, base) for key, put in rows if (base := self._base(key))]
        written = insert(connection, RECORD, COLUMNS, new, "ON CONFLICT DO NOTHING")
        if written + execute_each(connection, REVISE, later) != len(rows):
            raise WriteConflict("another instance gave a record of this batch a revision meanwhile")
        for (project, outcome), n in sorted(self._tallies.items()):
            key = {"project": project, "outcome": outcome}
            shard = lock_free_shard(connection, COUNTERS, **key)
            row = (COUNTERS.c.project == project, COUNTERS.c.outcome == outcome, COUNTERS.c.shard == shard)
            connection.execute(update(COUNTERS).where(*row).values(n=COUNTERS.c.n + n))
        self._read |= self._written
        self._written, self._tallies = {}, Counter()

    def _base(self, key: Key) -> int:
        read = self._read[key]
        return read.revision if read else 0

    def knows(self, project: str) -> bool:
        """Whether the project was defined; asked once where it was."""
        if project not in self._known and (known := self.projects.current(project)) is not None:
            self._known[project] = policy_of(known[1].ingest)
        return project in self._known

    def policy(self, project: str) -> Policy:
        """What the project's `ingest` says; of one that is not known, nothing."""
        return self._known[project] if self.knows(project) else LETS_ALL_IN

    def current(self, project: str, record_id: str) -> CurrentRevision | None:
        """The record's newest revision, or None."""
        key = (project, record_id)
        if key in self._written:
            return self._written[key]
        if key not in self._read:
            found = rows_by_pair(self.session.connection(), RECORD, ("project", "record_id"), [key])
            self._read[key] = _current_revision(found[0]) if found else None
        return self._read[key]

    def put(self, project: str, record_id: str, revision: CurrentRevision) -> None:
        """Makes `revision` the record's newest revision."""
        self.current(project, record_id)  # what it replaces: see `flush`
        self._written[project, record_id] = revision

    def count(self, project: str, outcome: str) -> None:
        """One more submission ended so."""
        self._tallies[project, outcome] += 1

    def counts(self, project: str) -> dict[str, Any]:
        """Accepted (revisions), records, unchanged, not_sampled, refused, refused_by_reason."""
        sums = select(func.coalesce(func.sum(RecordRow.revision), 0), func.count()).where(RecordRow.project == project)
        accepted, records = self.session.exec(sums).one()
        shards = select(CounterRow.outcome, func.sum(CounterRow.n)).where(CounterRow.project == project)
        counters = [(outcome, int(n)) for outcome, n in self.session.exec(shards.group_by(CounterRow.outcome))]
        refused = {name.removeprefix("refused."): n for name, n in sorted(counters) if name.startswith("refused.")}
        return {
            "accepted": int(accepted),
            "records": records,
            "unchanged": dict(counters).get("unchanged", 0),
            "not_sampled": dict(counters).get("not_sampled", 0),
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
        self._known.pop(project, None)  # it was defined just now
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


RECORD: Table = getattr(RecordRow, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
COUNTERS: Table = getattr(CounterRow, "__table__")  # noqa: B009
COLUMNS = ("project", "record_id", "revision", "fingerprint")
REVISE = "UPDATE record SET revision = ?, fingerprint = ? WHERE project = ? AND record_id = ? AND revision = ?"


def _current_revision(row: Any) -> CurrentRevision:
    return CurrentRevision(row.revision, row.fingerprint)
