"""Many rows by their keys in one query, whose text is the same however many there are."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, Row, Table


def rows_by_pair(
    connection: Connection, table: Table, key: tuple[str, str], pairs: Collection[tuple[str, str]]
) -> Sequence[Row[Any]]:
    """The rows whose columns `key` hold one of these pairs of texts; columns as the driver gives them."""
    if not pairs:
        return []
    statement = _select(table, key, connection.dialect.name)
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql(statement, (to_json(list(pairs)).decode(),)).all()
    columns = {"first": [first for first, _ in pairs], "second": [second for _, second in pairs]}
    return connection.exec_driver_sql(statement, columns).all()


@cache
def _select(table: Table, key: tuple[str, str], dialect: str) -> str:
    columns = ", ".join(f'"{table.name}"."{column.name}"' for column in table.c)
    first, second = (f'"{table.name}"."{name}"' for name in key)
    if dialect == "sqlite":
        wanted = "json_each(?) AS wanted"
        found = (f"json_extract(wanted.value, '$[{place}]')" for place in (0, 1))
    else:
        wanted = "unnest(%(first)s::text[], %(second)s::text[]) AS wanted (first, second)"
        found = (f"wanted.{name}" for name in ("first", "second"))
    on = " AND ".join(f"{ours} = {theirs}" for ours, theirs in zip((first, second), found, strict=True))
    return f'SELECT {columns} FROM {wanted} JOIN "{table.name}" ON {on}'  # noqa: S608 - names of our own
