"""Migrations run once, know what they brought, and take everything back; faults of the database are told apart."""

import sqlite3
import sys
import time
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from services.chassis.settings import Settings
from services.chassis.storage import database, migration
from services.chassis.storage.database import (
    DatabaseAway,
    is_database_fault,
    log_failure,
    open_engine,
    reading,
    writing,
)
from services.chassis.storage.migration import MigrationFailed, migrate, migrate_aside
from services.chassis.storage.tables import METADATA
from tests.conftest import loaded
from tests.unit.chassis.conftest import MIGRATIONS


def test_migrated_tables_are_those_of_the_classes(engine: Engine) -> None:
    found = inspect(engine)
    schema = "noria" if engine.dialect.name == "postgresql" else None
    for table in METADATA.tables.values():
        columns = {column["name"]: column for column in found.get_columns(table.name, schema)}
        assert set(columns) == set(table.columns.keys()), table.name
        assert {name for name, column in columns.items() if not column["nullable"]} == {
            column.name for column in table.columns if not column.nullable
        }, table.name
        expected = {index.name for index in table.indexes}
        assert {index["name"] for index in found.get_indexes(table.name, schema)} == expected


def test_second_start_runs_no_migration_and_a_new_script_does(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    upgrade = migration.upgrade

    def counted(*arguments: object) -> None:
        runs.append("run")
        upgrade(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(migration, "upgrade", counted)
    migrate(engine, "noria", MIGRATIONS)
    assert runs == []
    further = tmp_path / "further"
    (further / "versions").mkdir(parents=True)
    (further / "versions" / "more_0001.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\nrevision='more_0001'\ndown_revision=None\n"
        "branch_labels=('more',)\ndepends_on=None\n"
        "def upgrade():\n    op.create_table('more', sa.Column('x', sa.Integer))\n"
    )
    migrate(engine, "noria", MIGRATIONS, further)
    assert runs == ["run"]
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM more")).scalar() == 0


def test_service_migrates_without_loading_alembic(database_url: str, tmp_path: Path) -> None:
    engine = open_engine(Settings(home=tmp_path, database=database_url))
    before = set(sys.modules)
    migrate_aside(engine, "noria", MIGRATIONS)
    assert {name for name in set(sys.modules) - before if name.startswith(("alembic", "mako"))} == set()
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM note")).scalar() == 0
    migrate(engine, "noria", MIGRATIONS)  # finds nothing to do
    engine.dispose()


def test_service_on_sqlite_loads_no_console_and_no_other_database() -> None:
    code = "import services.prep.app; from services.chassis.storage.bulk import insert; from services.prep.store import RecordRow"
    upsert = "insert.upserting('sqlite', RecordRow)"
    assert loaded(f"{code}; {upsert}", "rich.console", "alembic", "sqlalchemy.dialects.postgresql") == set()


def test_process_that_migrates_says_whether_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "is_migrated", lambda *_: False)  # or it would be found out before that process
    away = open_engine(Settings(home=tmp_path, database="postgresql+psycopg://nobody@127.0.0.1:1/none"))
    with pytest.raises(DatabaseAway, match="Connection refused") as caught:
        migrate_aside(away, "noria", MIGRATIONS)
    assert is_database_fault(caught.value)
    scripts = tmp_path / "further" / "versions"
    scripts.mkdir(parents=True)
    (scripts / "wrong_0001.py").write_text("raise ValueError('a wrong script')")
    with pytest.raises(MigrationFailed, match="a wrong script"):
        migrate_aside(open_engine(Settings(home=tmp_path)), "noria", scripts.parent)


def test_locked_database_is_a_fault_and_a_wrong_statement_is_none(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as caught, writing(engine) as connection:
        connection.execute(text("SELECT * FROM nothing_of_this_name"))
    assert not is_database_fault(caught.value)
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorname = "SQLITE_BUSY"
    assert is_database_fault(OperationalError("", {}, busy))
    assert not is_database_fault(ProgrammingError("", {}, ValueError()))
    assert not is_database_fault(ValueError())


def test_full_disk_is_a_fault(tmp_path: Path) -> None:
    engine = open_engine(Settings(home=tmp_path))
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=3")
        with pytest.raises(DBAPIError) as caught:
            connection.exec_driver_sql("CREATE TABLE t AS SELECT randomblob(100000) AS x")
    assert is_database_fault(caught.value)
    engine.dispose()


def test_failed_transaction_leaves_nothing(engine: Engine) -> None:
    def fail() -> None:
        with writing(engine) as connection:
            connection.execute(text("INSERT INTO note (number, text) VALUES (1, 'x')"))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM note")).scalar() == 0


def test_powerless_address_is_a_fault(tmp_path: Path) -> None:
    engine = open_engine(Settings(home=tmp_path, database="postgresql+psycopg://nobody@127.0.0.1:1/none"))
    with pytest.raises(DBAPIError) as caught:
        database.check(engine)
    assert is_database_fault(caught.value)


def test_transaction_of_a_process_that_sleeps_is_ended_and_that_is_a_fault(postgres: str, tmp_path: Path) -> None:
    """Whoever was stopped amid a transaction kept its rows from its successor for as long as it slept."""
    engine = open_engine(Settings(home=tmp_path, database=postgres, lease_seconds=0.1))

    def sleep_amid_a_transaction() -> None:
        with engine.begin() as connection:
            connection.execute(text("SELECT 1"))
            time.sleep(1.0)  # what is tested is that nothing happens for so long
            connection.execute(text("SELECT 1"))

    with pytest.raises(DBAPIError) as caught:
        sleep_amid_a_transaction()
    assert is_database_fault(caught.value)
    engine.dispose()


def test_transaction_that_writes_ends_in_the_middle_of_a_statement_too(postgres: str, tmp_path: Path) -> None:
    """So the server sees a process that sleeps while it sends: active, waiting for the rest. One that reads locks no row."""
    engine = open_engine(Settings(home=tmp_path, database=postgres, lease_seconds=0.1))
    with pytest.raises(DBAPIError) as ended, writing(engine) as connection:
        connection.execute(text("SELECT pg_sleep(20)"))
    assert is_database_fault(ended.value)
    with reading(engine) as connection:
        assert connection.execute(text("SELECT 1 FROM pg_sleep(1)")).scalar() == 1
    engine.dispose()


def test_database_that_is_away_is_one_line_of_the_log_and_a_bug_is_a_traceback() -> None:
    with structlog.testing.capture_logs() as lines:
        log_failure(structlog.get_logger(), "later again", DatabaseAway("gone"), job=7)
        log_failure(structlog.get_logger(), "later again", ValueError("a bug"))
    assert [(line["log_level"], "exc_info" in line) for line in lines] == [("warning", False), ("error", True)]
    assert (lines[0]["detail"], lines[0]["job"]) == ("gone", 7)
