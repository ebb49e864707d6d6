"""An index over the dead-letter topics and the audit topic in an SQLite file, so that no verb reads them whole again.

It holds what the topics say and nothing else: how far each partition was read, each letter's place and notes, and what
became of it. Whoever deletes the file costs the next call one reading. Letters that Kafka has deleted leave it.
"""

import json
import sqlite3
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from services.cli.dead_letters import DeadLetterFilter, check_id, time_of
from services.cli.errors import ConsoleError

TABLES = """
CREATE TABLE IF NOT EXISTS place (topic TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fate (id TEXT PRIMARY KEY, said TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS letter (
    id TEXT PRIMARY KEY, at REAL NOT NULL, open INTEGER NOT NULL,
    topic TEXT NOT NULL, reason TEXT NOT NULL, said TEXT NOT NULL, "group" TEXT,
    kept_topic TEXT NOT NULL, kept_partition INTEGER NOT NULL, kept_offset INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS letter_newest ON letter (at, id);
CREATE INDEX IF NOT EXISTS letter_open ON letter (at, id) WHERE open;
CREATE INDEX IF NOT EXISTS letter_kept ON letter (kept_topic, kept_partition, kept_offset);
"""
Place = tuple[str, int]
"""(topic, partition)."""
After = tuple[float, str]
"""The (time, id) of a page's last letter."""


class DeadLetterIndex:
    """The index in one file; several processes may use it at once. `path` ":memory:" keeps none."""

    def __init__(self, path: Path | str) -> None:
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(TABLES)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def places(self) -> dict[Place, int]:
        """The next offset to read, by partition."""
        return {(topic, partition): next for topic, partition, next in self._database.execute("SELECT * FROM place")}

    def forget(self, topic: str, partition: int, first: int) -> None:
        """Removes the letters that lay before the offset `first`."""
        where = (topic, partition, first)
        sql = "DELETE FROM letter WHERE kept_topic = ? AND kept_partition = ? AND kept_offset < ?"
        self._database.execute(sql, where)

    def clear(self, topic: str, partition: int) -> None:
        """Forgets a partition whose topic was made anew."""
        with self._writing():
            self.forget(topic, partition, 2**62)
            self._database.execute("DELETE FROM place WHERE topic = ? AND partition = ?", (topic, partition))

    def add_dead_letters(self, place: Place, next: int, letters: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Adds (offset, summary) of a partition and remembers to read on at `next`. One that stands already stays."""
        sql = """INSERT INTO letter SELECT :id, :at, NOT EXISTS (SELECT 1 FROM fate WHERE id = :id),
            :topic, :reason, :said, :group, :kept_topic, :kept_partition, :kept_offset WHERE true ON CONFLICT DO NOTHING"""
        rows = [_row(place, offset, said) for offset, said in letters]
        with self._writing():
            self._database.executemany(sql, rows)
            self._remember(place, next)

    def add_fates(self, place: Place, next: int, fates: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Adds (letter's id, {action, by, at, reason}) of the audit topic; the first one of a letter holds."""
        with self._writing():
            for id, fate in fates:
                said = json.dumps(fate)
                self._database.execute("INSERT INTO fate VALUES (?, ?) ON CONFLICT DO NOTHING", (id, said))
                self._database.execute("UPDATE letter SET open = 0 WHERE id = ?", (id,))
            self._remember(place, next)

    def fate(self, id: str) -> dict[str, Any] | None:
        """What became of a letter."""
        found = self._database.execute("SELECT said FROM fate WHERE id = ?", (id,)).fetchone()
        return json.loads(found[0]) if found else None

    def count(self, wanted: DeadLetterFilter, *, open_only: bool) -> int:
        """How many letters are meant."""
        where, values = _where(wanted, open_only=open_only)
        return self._database.execute(f"SELECT count(*) FROM letter WHERE {where}", values).fetchone()[0]  # noqa: S608

    def page(
        self, wanted: DeadLetterFilter, limit: int, after: After | None = None, *, open_only: bool
    ) -> tuple[list[dict[str, Any]], After | None]:
        """The newest letters that are meant, with `settled` and `kept`, and the place after them where there are more."""
        where, values = _where(wanted, open_only=open_only)
        if after is not None:
            where, values = f"{where} AND (at, id) < (?, ?)", [*values, *after]
        columns = "letter.said, kept_topic, kept_partition, kept_offset, at, id"
        sql = f"SELECT {columns} FROM letter WHERE {where} ORDER BY at DESC, id DESC LIMIT ?"  # noqa: S608 - text of ours
        rows = self._database.execute(sql, (*values, limit + 1)).fetchall()
        found = [self._letter(row) for row in rows[:limit]]
        return found, tuple(rows[limit - 1][4:6]) if len(rows) > limit else None

    def resolve(self, ids: Sequence[str]) -> tuple[str, ...]:
        """The whole ids that these, or their beginnings, name.

        Raises:
            Usage: an id is too short.
            ConsoleError: `unknown_letter`: an id names none, or several.
        """
        return tuple(dict.fromkeys(self._one(id) for id in ids))

    def _one(self, id: str) -> str:
        check_id(id)
        sql = "SELECT id FROM letter WHERE id >= ? AND id < ? ORDER BY id LIMIT 2"
        found = [row[0] for row in self._database.execute(sql, (id, id + "\U0010ffff"))]
        if id in found or len(found) == 1:
            return found[0]
        many = f"several dead letters begin with {id!r}; give more of the id"
        raise ConsoleError("unknown_letter", many if found else f"there is no dead letter {id!r}; see `noria dlq list`")

    def _letter(self, row: Sequence[Any]) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(row[0])
        return {
            **said,
            "settled": self.fate(said["id"]),
            "kept": {"topic": row[1], "partition": row[2], "offset": row[3]},
        }

    def _remember(self, place: Place, next: int) -> None:
        sql = "INSERT INTO place VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next = max(next, excluded.next)"
        self._database.execute(sql, (*place, next))

    @contextmanager
    def _writing(self) -> Generator[None]:
        with closing(self._database.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")


def _row(place: Place, offset: int, said: Mapping[str, Any]) -> dict[str, Any]:
    at = time_of(said["time"])
    kept = {"kept_topic": place[0], "kept_partition": place[1], "kept_offset": offset}
    own = {name: said[name] for name in ("id", "topic", "reason", "group")}
    return {**own, **kept, "at": at.timestamp() if at else 0.0, "said": json.dumps(said)}


def _where(wanted: DeadLetterFilter, *, open_only: bool) -> tuple[str, list[Any]]:
    """The condition and its values; a letter without a time fits no span."""
    parts, values = ["open" if open_only else "true"], list[Any]()
    for name in ("topic", "reason", "group"):
        if (value := getattr(wanted, name)) is not None:
            parts.append(f'"{name}" = ?')
            values.append(value)
    for moment, sign in ((wanted.since, ">="), (wanted.until, "<=")):
        if moment is not None:
            parts.append(f"at {sign} ? AND at > 0")
            values.append(moment.timestamp())
    if wanted.ids:
        parts.append(f"id IN ({_marks(wanted.ids)})")
        values += wanted.ids
    return " AND ".join(parts), values


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))
