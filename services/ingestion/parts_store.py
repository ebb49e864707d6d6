"""What ingestion keeps of calls that log events told of in parts. Decides nothing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Table, func
from sqlmodel import Session, col, select

from services.chassis.storage.bulk.insert import execute_each, insert, moment
from services.chassis.storage.bulk.select import rows_by_pair
from services.chassis.storage.database import lock
from services.ingestion.domain.traces.parts import Part, as_text, from_text, identity
from services.ingestion.tables import PartRow

NUMBER = 20_000
"""Of a project's parts."""
ROOM = 0.9
"""Of the bounds: so much is left where parts are given up for want of room, so that it is not done at each request."""
AT_ONCE = 1000
PART: Table = getattr(PartRow, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
COLUMNS = ("project", "call", "identity", "told", "size", "log_records", "answers", "settled", "received_at")
DELETE = "DELETE FROM part WHERE project = ? AND call = ?"
SETTLE = "UPDATE part SET settled = TRUE WHERE project = ? AND call = ?"


@dataclass(frozen=True, slots=True)
class Kept:
    """A part that came before."""

    identity: str
    part: Part
    size: int


class Parts:
    """Parts of calls within one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def known(self, project: str, calls: Iterable[str]) -> dict[str, list[Kept]]:
        """The calls' parts in the order they came; until the transaction ends nobody else adds one to the project's."""
        connection = self._session.connection()
        lock(connection, f"noria.ingestion.part/{project}")
        rows = rows_by_pair(connection, PART, ("project", "call"), [(project, call) for call in calls])
        found: dict[str, list[Kept]] = {}
        for row in sorted(rows, key=lambda row: (row.received_at, row.identity)):
            kept = Kept(row.identity, from_text(row.told), row.size)
            found.setdefault(row.call, []).append(kept)
        return found

    def keep(self, project: str, call: str, parts: Sequence[Part], now: datetime) -> None:
        """Adds parts."""
        connection = self._session.connection()
        when = moment(connection, now)
        told = [(part, as_text(part)) for part in parts]
        rows = [
            (project, call, identity(part), text, len(text), part.items, part.answers, False, when)
            for part, text in told
        ]
        insert(connection, PART, COLUMNS, rows, "ON CONFLICT DO NOTHING")

    def settle(self, project: str, calls: Sequence[str]) -> None:
        """It was said what became of these calls' parts."""
        execute_each(self._session.connection(), SETTLE, [(project, call) for call in calls])

    def give_up(self, before: datetime) -> tuple[int, Counter[str]]:
        """Deletes up to AT_ONCE parts that came before then: how many, and the log records that are lost by it, by outcome."""
        old: Any = select(PartRow).where(col(PartRow.received_at) < before).order_by(col(PartRow.received_at))
        # Locked rows are another instance's affair.
        rows = self._session.exec(old.limit(AT_ONCE).with_for_update(skip_locked=True)).all()
        keys = [(row.project, row.call, row.identity) for row in rows]
        execute_each(self._session.connection(), f"{DELETE} AND identity = ?", keys)
        return len(rows), _lost((row.settled, row.answers, row.log_records) for row in rows)

    def trim(self, project: str, most_bytes: int) -> Counter[str]:
        """Deletes calls while the project has too much of them, those that are settled, then the oldest; what is lost."""
        of_project = col(PartRow.project) == project
        number, size = self._session.exec(select(func.count(), func.sum(PartRow.size)).where(of_project)).one()
        if number <= NUMBER and (size or 0) <= most_bytes:
            return Counter()
        columns = (PART.c.call, PART.c.size, PART.c.settled, PART.c.answers, PART.c.log_records)
        order = (PART.c.settled.desc(), PART.c.received_at, PART.c.call)
        found = PART.select().with_only_columns(*columns).where(of_project).order_by(*order)
        rows = self._session.connection().execute(found).all()
        calls: dict[str, list[Any]] = {}
        for row in rows:
            calls.setdefault(row.call, []).append(row)
        gone: list[Any] = []
        for own in calls.values():
            if number - len(gone) <= NUMBER * ROOM and size <= most_bytes * ROOM:
                break
            gone += own
            size -= sum(row.size for row in own)
        keys = sorted({(project, row.call) for row in gone})
        execute_each(self._session.connection(), DELETE, keys)
        return _lost((row.settled, row.answers, row.log_records) for row in gone)


def _lost(rows: Iterable[tuple[bool, bool, int]]) -> Counter[str]:
    """Questions without an answer are no calls, as ever; answers without a question are calls without contents."""
    lost: Counter[str] = Counter()
    for settled, answers, items in rows:
        if not settled:
            lost["no_content" if answers else "ignored"] += items
    return lost
