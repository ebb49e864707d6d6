"""An outbox in an SQLite file of its own, for whoever must write down an event within a millisecond.

Survives a kill of the process at any moment; a power cut may take the last moments (no sync a row). Knows no handler.
"""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from contracts.envelope import Event, Meta
from services.chassis.jobs import leases
from services.chassis.messaging import outbox
from services.chassis.messaging.kafka.security import security
from services.chassis.messaging.relay import Backlog, Relay, backlog
from services.chassis.observability.metrics import Metrics
from services.chassis.settings import Settings
from services.chassis.storage.database import open_sqlite, writing
from services.chassis.storage.migration import migrate_aside

LINGER_SECONDS = 0.25


class Spool:
    """`put` writes an event down; `relay` carries the written ones to Kafka."""

    def __init__(self, path: Path, settings: Settings, metrics: Metrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._engine = open_sqlite(f"sqlite:///{path}", synchronous="NORMAL")
        migrate_aside(self._engine, settings.SERVICE)
        self._security = security(settings)
        self._relay: Relay | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waking: asyncio.TimerHandle | None = None

    def put(self, event: Event, id: str, *, time: datetime | None = None, traceparent: str | None = None) -> None:
        """Writes the event down under the ce_id `id`; well under a millisecond. May be called from any thread."""
        now = datetime.now(UTC)
        meta = Meta(id, self._settings.source, event.ce_type(), time or now, traceparent=traceparent)
        with writing(self._engine) as connection:
            outbox.put(connection, [outbox.event_row(event, meta)], now)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._nudge)

    def _nudge(self) -> None:
        """Wakes the relay soon rather than at once: what is written meanwhile goes to Kafka in the same batch."""
        if self._loop is not None and self._waking is None:
            self._waking = self._loop.call_later(LINGER_SECONDS, self._wake)

    def _wake(self) -> None:
        self._waking = None
        if self._relay is not None:
            self._relay.filled.set()

    async def relay(self) -> None:
        """Carries events to Kafka until cancelled."""
        self._relay = Relay(
            self._engine, self._settings.kafka_bootstrap, leases.new_owner(), self._metrics, self._security
        )
        self._loop = asyncio.get_running_loop()
        await self._relay.run()

    def backlog(self) -> Backlog:
        """What waits for Kafka."""
        return backlog(self._engine)

    def close(self) -> None:
        """Closes the file."""
        self._engine.dispose()
