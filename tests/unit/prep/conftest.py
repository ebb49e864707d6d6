from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.envelope import Event, Meta
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.prep import handlers
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
