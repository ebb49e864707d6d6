"""Services of the real stream without a broker: what one puts into its outbox is what another takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, text

from contracts.envelope import Event, encode, new_meta
from services.chassis.context import Context
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.messaging.messages import routes
from services.chassis.messaging.outbox import OUTBOX, unpack_headers
from services.chassis.observability.metrics import Metrics
from services.chassis.settings import Settings
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import open_sqlite, writing
from services.chassis.storage.migration import migrate

OFFSETS = count()


@dataclass(frozen=True)
class Message:
    """A Kafka record."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    offset: int
    partition: int = 0
    timestamp: int = 1


def message(event: Event, id: str, source: str = "urn:test") -> Message:
    """An event as an outsider sends it."""
    key, value, headers = encode(event, new_meta(event, source, id))
    return Message(event.TOPIC, key, value, headers, next(OFFSETS))


class Link:
    """One service on a database of its own."""

    def __init__(self, name: str, settings: Settings, home: Path) -> None:
        handlers: Any = import_module(f"services.{name}.handlers")
        self.store: Callable[[Any], Any] = import_module(f"services.{name}.store").SqlStore
        self.engine: Engine = open_sqlite(f"sqlite:///{home / name}.db", synchronous="OFF")
        migrate(self.engine, name, Path(handlers.__file__).parent / "migrations")
        self.routes = routes(handlers.HANDLERS)
        metrics = Metrics(name)
        self.context: Context[Any] = Context(settings, self.engine, self.store, open_store(settings), metrics)
        self.batch = BatchContext(
            settings.group, settings.source, self.routes, self.engine, self.store, metrics, attempts=1
        )

    def take(self, messages: Sequence[Message]) -> Mapping[tuple[str, str, str], int]:
        """Takes what it handles of `messages`; how they ended."""
        return take(self.batch, [each for each in messages if each.topic in self.routes]).fates

    def sent(self) -> list[Message]:
        """What is in the outbox, which is empty then."""
        with writing(self.engine) as connection:
            rows = connection.execute(select(OUTBOX).order_by(OUTBOX.c.id)).all()
            connection.execute(OUTBOX.delete())
        return [Message(r.topic, r.key, r.value, unpack_headers(r.headers), next(OFFSETS)) for r in rows]

    def rows(self, query: str) -> list[Any]:
        """The rows of a query."""
        with writing(self.engine) as connection:
            return list(connection.execute(text(query)))
