"""Lists and loops of ingestion, prep, feedback and the trainer read by an index and sort nothing, however long history is."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlmodel import Session

from services.chassis.messaging import parking
from services.chassis.retention.pruning import horizons, prune
from services.chassis.settings import Settings
from services.chassis.storage.database import open_sqlite, writing
from services.chassis.storage.migration import migrate
from services.feedback.store import SqlStore as Feedback
from services.feedback.store import horizons as of_feedback
from services.ingestion.store import SqlStore as Ingestion
from services.prep.store import SqlStore as Prep
from services.trainer.store import SqlStore as Trainer

NOW = datetime(2026, 1, 31, tzinfo=UTC)
SMALL = ("progress", "sqlite_", "json_each", "lease")
"""Tables of a row a project or fewer; they may be read whole."""
FEW = ("signal.request_id = ?", "signal.status = ?", "FROM parked")
"""What selects few rows, whatever history holds: signals of one request, what waits or is parked; they may be sorted."""


@contextmanager
def opened(service: str, store: Any, folder: Path) -> Generator[tuple[Any, list[str]]]:
    """The service's store on its tables, and the plans of what it asks."""
    engine = open_sqlite(f"sqlite:///{folder / service}.db", "NORMAL")
    migrate(engine, service, Path("services") / service / "migrations")
    plans: list[str] = []
    with writing(engine) as connection, Session(connection) as session:
        opened_store = store(session)
        _listen(engine, plans)
        yield opened_store, plans
    engine.dispose()


def _listen(engine: Engine, plans: list[str]) -> None:
    @event.listens_for(engine, "before_cursor_execute")
    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if not statement.startswith(("SELECT", "DELETE", "UPDATE")) or many:
            return
        rows = connection.connection.driver_connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
        plans.extend(f"{row[3]}   <- {statement}" for row in rows)


def bad(plans: list[str]) -> list[str]:
    """The steps that read a whole table or sort."""
    found: list[str] = []
    for plan in plans:
        step = plan.split("   <- ")[0]
        whole = step.startswith("SCAN") and "INDEX" not in step and not step.split()[1].startswith(SMALL)
        sorts = "TEMP B-TREE" in step and "ORDER BY" in step and not any(few in plan for few in FEW)
        if (whole or sorts) and "progress" not in plan:
            found.append(plan)
    return found


def ask_feedback(store: Any) -> None:
    store.newest(None, (NOW, "s"), 10)
    store.newest("r1", None, 10)
    store.waiting_for("r1")
    store.waiting_since(NOW, 10)
    store.overlooked(10)
    for rule in of_feedback(timedelta(days=30), timedelta(days=90)):
        prune(store.session.connection(), rule, NOW)


def ask_prep(store: Any) -> None:
    for project in (None, "p"):
        store.datasets(project, None, 10)
        store.datasets(project, (NOW, "p", 3), 10)
        store.failures(project)
    store.newest("p")
    store.latest("p", 5, 10)
    store.changed("p", 5, 100)
    store.unfrozen()


def ask_trainer(store: Any) -> None:
    for project in (None, "p"):
        store.runs(project, 10)
        store.runs(project, 10, (NOW, "r"))


def ask_ingestion(store: Any) -> None:
    store.overdue(NOW, NOW)
    store.counts("p")
    store.standing("p", "r")


def ask_chassis(store: Any) -> None:
    connection = store.session.connection()
    for rule in horizons(Settings()):
        prune(connection, rule, NOW)
    parking.due(connection, "g", NOW, 10, 60.0)
    parking.listing(connection, "g", 0, 10)
    parking.occupied(connection, "g", [b"k"])


ASKED = {
    "feedback": (Feedback, ask_feedback),
    "prep": (Prep, ask_prep),
    "trainer": (Trainer, ask_trainer),
    "ingestion": (Ingestion, ask_ingestion),
}


@pytest.mark.parametrize("service", ASKED)
def test_a_service_asks_by_an_index(service: str, tmp_path: Path) -> None:
    store, ask = ASKED[service]
    with opened(service, store, tmp_path) as (opened_store, plans):
        ask(opened_store)
        if service == "feedback":
            ask_chassis(opened_store)
        assert plans
        assert bad(plans) == []


def test_what_reads_a_whole_table_is_found(tmp_path: Path) -> None:
    with opened("feedback", Feedback, tmp_path) as (store, plans):
        store.session.connection().exec_driver_sql("SELECT * FROM signal ORDER BY record_id")
        assert len(bad(plans)) == 2
