"""What databases of earlier releases hold keeps its meaning."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlmodel import Session

from services.chassis.storage import migration
from services.chassis.storage.database import open_engine, reading, writing
from services.prep import handlers
from services.prep.settings import PrepSettings
from services.prep.store import SqlStore

FOLDER = Path(handlers.__file__).parent / "migrations"
PROGRESS = """
INSERT INTO progress (project, sequence, seen, frozen, tried, freezes) VALUES ('p', 3, 3, 2, 0, 1), ('new', 0, 0, 0, 0, 0)
"""
RECORD = """
INSERT INTO record (project, record_id, revision, format, record, digest, tags, accepted_at, sequence)
VALUES ('p', 'r', 1, 'text', '{"text":"t"}', '', '{}', '2026-01-31 00:00:00', 3)
"""


def run(url: str, tmp_path: Path, deed: str, revision: str) -> None:
    engine = open_engine(PrepSettings(home=tmp_path, database=url))
    config = Config()
    config.set_main_option("script_location", str(migration.MIGRATIONS))
    config.set_main_option("path_separator", "newline")
    folders = [migration.MIGRATIONS / "versions", FOLDER / "versions"]
    config.set_main_option("version_locations", "\n".join(map(str, folders)))
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS prep"))
        config.attributes["connection"] = connection
        getattr(command, deed)(config, revision)
    engine.dispose()


@pytest.fixture
def older(database_url: str, tmp_path: Path) -> str:
    run(database_url, tmp_path, "upgrade", "prep_0001")
    engine = open_engine(PrepSettings(home=tmp_path, database=database_url))
    with writing(engine) as connection:
        connection.execute(text(PROGRESS))
        connection.execute(text(RECORD))
    engine.dispose()
    return database_url


def test_what_was_frozen_stays_frozen_and_what_waited_waits(older: str, tmp_path: Path) -> None:
    run(older, tmp_path, "upgrade", "heads")
    engine = open_engine(PrepSettings(home=tmp_path, database=older))
    with reading(engine) as connection, Session(connection) as session:
        store = SqlStore(session)
        assert store.positions("p") == {"0": 3}
        progress = store.seen("p")
        assert progress is not None
        assert (progress.frozen_positions, progress.tried_positions, progress.tried) == ({"0": 2}, {"0": 2}, 2)
        assert store.changed("p", progress.frozen_positions) == 1
        assert store.positions("new") == {}
        assert store.kinds("p") == {"text": 1}
    with writing(engine) as connection, Session(connection) as session:
        assert [(row.project, positions) for row, positions in SqlStore(session).unfrozen()] == [("p", {"0": 3})]
    engine.dispose()


def test_older_release_counts_anew(older: str, tmp_path: Path) -> None:
    run(older, tmp_path, "upgrade", "heads")
    run(older, tmp_path, "downgrade", "prep_0001")
    engine = open_engine(PrepSettings(home=tmp_path, database=older))
    with reading(engine) as connection:
        rows = connection.execute(text("SELECT project, sequence, frozen FROM progress ORDER BY project")).all()
    assert [tuple(row) for row in rows] == [("new", 0, 0), ("p", 3, 0)]
    engine.dispose()
