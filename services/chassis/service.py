"""What a service is made of, as its app.py wires it. Starts nothing: services.chassis.app does."""

import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from sqlmodel import Session

from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.errors import SettingRefused
from services.chassis.health import Check
from services.chassis.http import ApiError, answer
from services.chassis.jobs import JobKind
from services.chassis.messages import Handler
from services.chassis.restore import Restore
from services.chassis.settings import Settings


@dataclass(frozen=True, slots=True)
class Timer:
    """`run(store, now)` every so many seconds, in a transaction; the events it returns go to the outbox."""

    name: str
    every: float
    run: Callable[[Any, datetime], Iterable[Event]]


@dataclass(frozen=True)
class Service:
    """A service: `Service(...).run()` starts it and blocks until SIGTERM."""

    settings: Settings
    handlers: Mapping[type[Event], Handler] = field(default_factory=dict[type[Event], Handler])
    store: Callable[[Session], Any] = field(default=lambda session: session)
    migrations: Path | None = None
    router: Callable[[Context[Any]], APIRouter] | None = None
    jobs: tuple[JobKind, ...] = ()
    timers: tuple[Timer, ...] = ()
    ready: Mapping[str, Check] = field(default_factory=dict[str, Check])
    shape: Callable[[ApiError], Response] = answer
    """How an error looks over HTTP."""
    background: tuple[Callable[[Context[Any]], Coroutine[Any, Any, None]], ...] = ()
    restore: Restore | None = None

    @property
    def name(self) -> str:
        """The service's name."""
        return self.settings.SERVICE

    def run(self) -> None:
        """Starts everything and blocks until SIGTERM or SIGINT."""
        from services.chassis.app import run

        try:
            run(self)
        except SettingRefused as error:
            sys.exit(f"{self.name}: {error}")
