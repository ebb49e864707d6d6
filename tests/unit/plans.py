"""Reads the plans by which SQLite and PostgreSQL answer what a store asks. Knows no service."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlmodel import Session

from services.chassis.storage.database import open_database, writing
from services.chassis.storage.migration import migrate

COARSE = ("kind",)
"""Columns that alone choose nearly all of a table: who searches by one of them reads it whole."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a plan that may take longer the more history there is, and the statement it belongs to.

    `what`: "whole" reads all of a table, "index" looks at every row of the index `index`, "sort" sorts what it found.
    """

    what: str
    table: str
    statement: str
    index: str = ""


@contextmanager
def opened(
    url: str, service: str, store: Callable[[Session], Any], few: Sequence[str]
) -> Generator[tuple[Any, list[Step], list[str]]]:
    """The service's store on its migrated tables, the steps seen so far, and the statements explained.

    `few`: parts of statements that select few rows, so that sorting them is the right plan.
    """
    engine = open_database(url, service, 20.0)
    migrate(engine, service, Path("services") / service / "migrations")
    steps: list[Step] = []
    asked: list[str] = []
    with writing(engine) as connection, Session(connection) as session:
        opened_store = store(session)
        _listen(engine, steps, asked, few)
        yield opened_store, steps, asked
    engine.dispose()


def _listen(engine: Engine, steps: list[Step], asked: list[str], few: Sequence[str]) -> None:
    read = _of_sqlite if engine.dialect.name == "sqlite" else _of_postgresql

    @event.listens_for(engine, "before_cursor_execute")
    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.lstrip().startswith(("SELECT", "DELETE", "UPDATE", "WITH")) and not many:
            asked.append(statement)
            may_sort = any(part in statement for part in few)
            steps.extend(read(connection.connection.driver_connection, statement, parameters, may_sort))


def _of_sqlite(connection: Any, statement: str, parameters: Any, may_sort: bool) -> list[Step]:
    """Source: sqlite.org/eqp.html. A SCAN by an index is in the index's order and ends with the LIMIT."""
    found: list[Step] = []
    for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall():
        words = row[3].split()
        if words[0] == "SCAN" and "INDEX" not in words and words[1] != "CONSTANT":
            found.append(Step("whole", words[1], statement))
        through = words[0] == "SCAN" and "LIMIT" not in statement.upper()
        coarse = words[0] == "SEARCH" and any(f"({column}=?)" in row[3] for column in COARSE)
        if "INDEX" in words and (through or coarse):
            found.append(Step("index", words[1], statement, words[words.index("INDEX") + 1]))
        if "TEMP B-TREE" in row[3] and "ORDER BY" in row[3] and not may_sort:
            found.append(Step("sort", "", statement))
    return found


def _of_postgresql(connection: Any, statement: str, parameters: Any, may_sort: bool) -> list[Step]:
    """Source: postgresql.org/docs/current/using-explain.html, its JSON.

    Empty tables are read whole whatever indexes there are, so that is made dear: only what has no other way shows. How a DELETE
    is joined to the rows it chose says nothing on empty tables either: there only what it filters counts.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = {'on' if may_sort else 'off'}")
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        said = cursor.fetchone()[0]
    document = json.loads(said) if isinstance(said, str) else said
    deletes = statement.lstrip().startswith("DELETE")
    return [
        step for step in _nodes(document[0]["Plan"], statement, limited=deletes) if step.what != "sort" or not may_sort
    ]


def _nodes(node: Mapping[str, Any], statement: str, limited: bool = False) -> Generator[Step]:
    kind, table = node["Node Type"], node.get("Relation Name", "")
    if kind == "Seq Scan":
        yield Step("whole", table, statement)
    if kind in BY_INDEX and "Index Cond" not in node and ("Filter" in node or not limited):
        yield Step("index", table, statement, node["Index Name"])
    if kind in ("Sort", "Incremental Sort"):
        yield Step("sort", "", statement)
    for child in node.get("Plans", ()):
        yield from _nodes(child, statement, limited or kind == "Limit")


BY_INDEX = ("Index Scan", "Index Only Scan", "Bitmap Index Scan")
