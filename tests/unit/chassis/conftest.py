import pathlib
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.chassis.messaging.batch import BatchContext
from services.chassis.messaging.messages import routes
from services.chassis.observability.metrics import Metrics
from services.chassis.settings import Settings
from services.chassis.storage.database import open_engine
from services.chassis.storage.migration import migrate
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
def context(engine: Engine) -> BatchContext:
    return BatchContext(
        "tiny.main", "/noria/tiny", routes({Ping: on_ping}), engine, SqlStore, Metrics("tiny"), attempts=3
    )
