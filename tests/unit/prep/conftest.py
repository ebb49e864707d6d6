from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.envelope import Event, Meta
from services.chassis.context import Context
from services.chassis.http import guard
from services.chassis.http.application import answer, install_errors
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.prep import handlers
from services.prep.http import make_router
from services.prep.settings import PrepSettings
from services.prep.store import SqlStore
from tests.unit.prep.builders import NOW, Events, Opened

MIGRATIONS = Path(handlers.__file__).parent / "migrations"


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(PrepSettings(home=tmp_path, database=database_url))
    migrate(engine, "prep", MIGRATIONS)
    yield engine
    engine.dispose()


@pytest.fixture
def opened(engine: Engine) -> Opened:
    """Opens the store in a transaction of its own."""

    @contextmanager
    def open_store() -> Generator[SqlStore]:
        with writing(engine) as connection, Session(connection) as session:
            store = SqlStore(session)
            yield store
            store.flush()
            session.flush()

    return open_store


@pytest.fixture
def handle(opened: Opened) -> Callable[[Iterable[Event]], None]:
    """Hands events to their handlers, in one transaction."""

    def all_of(given: Iterable[Event]) -> None:
        with opened() as store:
            for i, event in enumerate(given):
                meta = Meta(id=str(i), source="urn:test", type="", time=NOW)
                assert not list(handlers.HANDLERS[type(event)](event, meta, store))

    return all_of


@pytest.fixture
def client(engine: Engine, tmp_path: Path) -> Iterator[TestClient]:
    settings = PrepSettings(home=tmp_path)
    context = Context(settings, engine, SqlStore, open_store(settings), Metrics("prep"))
    app = FastAPI()
    install_errors(app)
    guard.install(app, guard.Guard(context.settings), answer, make_router(context))
    with TestClient(app) as client:
        yield client
