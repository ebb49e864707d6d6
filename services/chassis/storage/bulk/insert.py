"""Many rows in one statement straight through the driver: SQLAlchemy's work on each parameter costs more than SQLite's.

Knows no table of its own.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Table


def insert(connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts rows whose values stand in the order of `columns` and are what the driver takes (see `moment`)."""
    if rows:
        connection.exec_driver_sql(_insert(table, columns, connection.dialect.name), list(rows))


def upsert(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Runs an INSERT ... ON CONFLICT with ? as its marks for every row; gives how many rows it made or changed."""
    if not rows:
        return 0
    text = statement if connection.dialect.name == "sqlite" else statement.replace("?", "%s")
    return connection.exec_driver_sql(text, list(rows), execution_options={"preserve_rowcount": True}).rowcount


@cache
def _insert(table: Table, columns: tuple[str, ...], dialect: str) -> str:
    mark = "?" if dialect == "sqlite" else "%s"
    names = ", ".join(f'"{name}"' for name in columns)
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join([mark] * len(columns))})'  # noqa: S608 - names of our own


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
