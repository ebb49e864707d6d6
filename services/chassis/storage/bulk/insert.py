"""Many rows in one statement straight through the driver: SQLAlchemy's work on each parameter costs more than SQLite's.

Knows no table of its own.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib import import_module
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, LargeBinary, Table

COUNTED = {"preserve_rowcount": True}


def insert(
    connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]], conflict: str = ""
) -> int:
    """Inserts rows, in their order, whose values stand in the order of `columns` and are what the driver takes (see `moment`).

    `conflict` is an ON CONFLICT clause. Gives how many rows it made or changed.
    """
    if not rows:
        return 0
    statement = f"{_insert(table, columns, connection.dialect.name)} {conflict}"
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql(statement, list(rows), execution_options=COUNTED).rowcount
    # One statement: psycopg sends as many as there are rows, at ten times the cost of a row.
    named = [dict(zip(columns, (_json(value) for value in row), strict=True)) for row in rows]
    return connection.exec_driver_sql(statement, {"rows": to_json(named).decode()}).rowcount


def execute_each(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Runs a statement with ? as its marks for every row; gives how many rows it changed."""
    if not rows:
        return 0
    text = statement if connection.dialect.name == "sqlite" else statement.replace("?", "%s")
    return connection.exec_driver_sql(text, list(rows), execution_options=COUNTED).rowcount


def _json(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


@cache
def _insert(table: Table, columns: tuple[str, ...], dialect: str) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    into = f'INSERT INTO "{table.name}" ({names})'
    if dialect == "sqlite":
        return f"{into} VALUES ({', '.join('?' * len(columns))})"
    binary = {name for name in columns if isinstance(table.c[name].type, LargeBinary)}
    postgresql = import_module("sqlalchemy.dialects.postgresql").dialect()
    types = {name: "text" if name in binary else table.c[name].type.compile(postgresql) for name in columns}
    values = ", ".join(f"decode(\"{name}\", 'hex')" if name in binary else f'"{name}"' for name in columns)
    new = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
    return f"{into} SELECT {values} FROM json_to_recordset(%(rows)s::json) AS new ({new})"  # noqa: S608 - names of our own


def upserting(dialect: str, table: type[Any] | Table) -> Any:
    """An INSERT that knows ON CONFLICT, which both databases spell alike.

    Loads that database's part of SQLAlchemy alone: PostgreSQL's brings every driver there is.
    """
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)


def moment(connection: Connection, when: datetime) -> Any:
    """A UTC moment as the driver takes it; SQLite keeps text in SQLAlchemy's form."""
    if connection.dialect.name == "sqlite":
        return when.isoformat(" ", "microseconds")[:26]
    return when
