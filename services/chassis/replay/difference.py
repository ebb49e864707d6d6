"""Compares the tables of two databases row by row. Knows no log and no service; both databases' rows are held in memory."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, cast

from sqlalchemy import Engine, MetaData, Table, select

from services.chassis.replay.restore import Restore
from services.chassis.storage.database import reading

CHASSIS = frozenset(
    {"inbox", "outbox", "parked", "job", "fair_share", "lease", "idempotency_key", "migrated", "alembic_version"}
)
"""How messages and jobs stand at this moment, no state of the service."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`column` is None where only one side has the row; then the other side's value is None."""

    table: str
    key: str
    column: str | None
    live: Any
    rebuilt: Any

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


Rows = dict[tuple[str, ...], dict[str, Any]]


def differences(live: Engine, rebuilt: Engine, restore: Restore) -> list[Difference]:
    """What differs in the service's tables, in the order of tables and keys."""
    old, new = _tables(live), _tables(rebuilt)
    names = sorted((old.keys() | new.keys()) - CHASSIS - restore.omitted.keys())
    return [
        found
        for name in names
        for found in compare(
            name,
            *_both(name, _rows(live, old.get(name), restore), _rows(rebuilt, new.get(name), restore)),
        )
    ]


def compare(table: str, live: Rows, rebuilt: Rows) -> Iterator[Difference]:
    """The differences of one table's rows."""
    for key in sorted(live.keys() | rebuilt.keys()):
        before, after, shown = live.get(key), rebuilt.get(key), "/".join(key)
        if before is None or after is None:
            yield Difference(table, shown, None, before, after)
            continue
        for column in sorted(before.keys() | after.keys()):
            if before.get(column) != after.get(column):
                yield Difference(table, shown, column, before.get(column), after.get(column))


def _both(table: str, live: Rows, rebuilt: Rows) -> tuple[Rows, Rows]:
    """Without what compaction took of the projects' topic: old revisions that no event names, and when others were defined."""
    if table != "project_revision":
        return live, rebuilt
    newest: dict[str, tuple[Any, ...]] = {}
    for (project, _), row in live.items():
        newest[project] = max(newest.get(project, (0, "")), (row["sequence"] or 0, row["defined_at"] or ""))
    kept = {
        key: row
        for key, row in live.items()
        if key in rebuilt or newest[key[0]] == (row["sequence"] or 0, row["defined_at"] or "")
    }
    when = ("defined_at", "sequence")
    return kept, {
        key: row | {name: live[key][name] for name in when} if key in live and row["defined_at"] is None else row
        for key, row in rebuilt.items()
    }


def _tables(engine: Engine) -> dict[str, Table]:
    found = MetaData()
    with reading(engine) as connection:
        found.reflect(connection)
    return dict(found.tables)


def _rows(engine: Engine, table: Table | None, restore: Restore) -> Rows:
    if table is None:
        return {}
    keys = restore.keys.get(table.name) or tuple(column.name for column in table.primary_key)
    column, values, _ = restore.omitted_rows.get(table.name, ("", (), ""))
    rows: Rows = {}
    with reading(engine) as connection:
        for found in connection.execute(select(table).order_by(*table.primary_key)).mappings():
            row = {name: plain(value) for name, value in found.items()}
            if row.get(column) not in values:
                rows[_free(tuple(str(row[key]) for key in keys), rows)] = _kept(table.name, row, restore)
    return rows


def _free(key: tuple[str, ...], rows: Rows) -> tuple[str, ...]:
    """The key, numbered where rows before have it too: `Restore.keys` need not tell all rows apart."""
    if key not in rows:
        return key
    return next(named for n in count(2) if (named := (*key, f"#{n}")) not in rows)


def plain(value: Any) -> Any:
    """A column's value as JSON has it, the same from either database."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return json.loads(json.dumps(value, default=repr))


def _kept(table: str, row: Mapping[str, Any], restore: Restore) -> dict[str, Any]:
    return {
        name: value
        for column, whole in row.items()
        for name, value in _flat(column, whole)
        if not any(f"{table}.{name}" == path or f"{table}.{name}".startswith(f"{path}.") for path in restore.omitted)
    }


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, part in cast(dict[str, Any], value).items():
            yield from _flat(f"{name}.{key}", part)
    else:
        yield name, value
