"""One fact in its versions, and consumers that read the old one, the new one or both, as EVOLVE says.

A parcel was weighed. V1 says grams in a text, as somebody once thought right; V2 a number.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from contracts.envelope import Event, Meta
from services.chassis.app import run
from services.chassis.messaging.messages import Handler
from services.chassis.service import Service
from tests.integration.tiny.service import SqlStore, TinySettings, make_router

PRODUCER = os.environ.get("PRODUCER", "evolving")


class WeighedV1(Event):
    TOPIC: ClassVar[str] = f"{PRODUCER}.parcel.weighed.v1"

    number: int
    weight: str


class WeighedV1Revised(WeighedV1):
    """The additive revision: the same topic, one more field that may be missing."""

    scale: str | None = None


class WeighedV2(Event):
    """The breaking version: another class, another topic."""

    TOPIC: ClassVar[str] = f"{PRODUCER}.parcel.weighed.v2"

    number: int
    grams: int
    scale: str


def on_v1(event: WeighedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    store.note(event.number, f"v1 {event.weight}")
    return []


def on_v2(event: WeighedV2, meta: Meta, store: SqlStore) -> Iterable[Event]:
    store.note(event.number, f"v2 {event.grams}")
    return []


HANDLERS: dict[str, dict[type[Event], Handler]] = {"v1": {WeighedV1: on_v1}, "v2": {WeighedV2: on_v2}}


def make_service(settings: Any, reads: str) -> Service:
    return Service(
        settings=settings,
        handlers=HANDLERS[reads],
        store=SqlStore,
        migrations=Path(__file__).parent / "migrations",
        router=make_router,
    )


if __name__ == "__main__":
    run(make_service(TinySettings(), os.environ["EVOLVE"]))
