from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session

from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.registry.settings import RegistrySettings
from services.registry.store import SqlStore

MIGRATIONS = Path(__file__).parents[3] / "services" / "registry" / "migrations"


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[SqlStore]:
    engine = open_engine(RegistrySettings(home=tmp_path, database=database_url))
    migrate(engine, "registry", MIGRATIONS)
    with writing(engine) as connection, Session(connection) as session:
        yield SqlStore(session)
    engine.dispose()
