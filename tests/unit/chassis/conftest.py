import pathlib
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.chassis.database import open_engine
from services.chassis.intake import Intake
from services.chassis.messages import routes
from services.chassis.metrics import Metrics
from services.chassis.migration import migrate
from services.chassis.settings import Settings
from tests.integration.tiny.events import Ping
from tests.integration.tiny.service import SqlStore, on_ping

MIGRATIONS = pathlib.Path("tests/integration/tiny/migrations")


@pytest.fixture
def engine(database_url: str, tmp_path: pathlib.Path) -> Iterator[Engine]:
    engine = open_engine(Settings(home=tmp_path, database=database_url))
    migrate(engine, "noria", MIGRATIONS)
    yield engine
    engine.dispose()


@pytest.fixture
def intake(engine: Engine) -> Intake:
    return Intake("tiny.main", "/noria/tiny", routes({Ping: on_ping}), engine, SqlStore, Metrics("tiny"), attempts=3)
