from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session

from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.evaluator.settings import EvaluatorSettings
from services.evaluator.store import SqlStore

MIGRATIONS = Path(__file__).parents[3] / "services" / "evaluator" / "migrations"


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[SqlStore]:
    engine = open_engine(EvaluatorSettings(home=tmp_path, database=database_url))
    migrate(engine, "evaluator", MIGRATIONS)
    with writing(engine) as connection, Session(connection) as session:
        yield SqlStore(session)
    engine.dispose()
