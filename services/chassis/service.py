"""What a service is made of, as its app.py wires it."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from sqlmodel import Session
from starlette.middleware import Middleware

from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.http.application import ApiError, answer
from services.chassis.http.health import Check
from services.chassis.jobs.job import JobKind
from services.chassis.messaging.messages import Handler
from services.chassis.replay.restore import Restore
from services.chassis.retention.pruning import Horizon
from services.chassis.retention.references import ArtifactReference
from services.chassis.settings import Settings
from services.chassis.storage.store import ChassisStore


@dataclass(frozen=True, slots=True)
class Timer:
    """`run(store, now)` every so many seconds, in a transaction; the events it returns go to the outbox."""

    name: str
    every: float
    run: Callable[[Any, datetime], Iterable[Event]]


@dataclass(frozen=True)
class Service:
    """A service: `services.chassis.app.run` starts it."""

    settings: Settings
    handlers: Mapping[type[Event], Handler] = field(default_factory=dict[type[Event], Handler])
    store: Callable[[Session], ChassisStore] = ChassisStore
    migrations: Path | None = None
    router: Callable[[Context[Any]], APIRouter] | None = None
    jobs: tuple[JobKind, ...] = ()
    timers: tuple[Timer, ...] = ()
    horizons: tuple[Horizon, ...] = ()
    """Which of the service's own rows are deleted by age."""
    artifact_references: tuple[ArtifactReference, ...] = ()
    """Which of the service's own rows name artifacts."""
    ready: Mapping[str, Check] = field(default_factory=dict[str, Check])
    shape: Callable[[ApiError], Response] = answer
    """How an error looks over HTTP."""
    middleware: tuple[Middleware, ...] = ()
    """Around the whole HTTP entrance, its guard too; the outermost last."""
    background: tuple[Callable[[Context[Any]], Coroutine[Any, Any, None]], ...] = ()
    restore: Restore | None = None
    conceal: Callable[[Any, bytes], bytes] | None = None
    """(store, a message's value) -> what a dead letter keeps of it; without this, all."""
    drain: Callable[[], Awaitable[None]] | None = None
    """Told to end, the service answers until this returns, for at most `drain_seconds`."""
    drain_seconds: float = 0.0

    @property
    def name(self) -> str:
        """The service's name."""
        return self.settings.SERVICE
