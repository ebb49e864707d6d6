"""Moves versions between stages: each move is a row of history, each new production version an event. Knows no gate."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from contracts.envelope import Event
from services.registry.domain.history import Cause, Stage, Transition, previous
from services.registry.domain.version import ModelVersion, promoted
from services.registry.store import Store


class NothingBefore(LookupError):
    """No version was in production before the present one."""


@dataclass(frozen=True, slots=True)
class Deed:
    """Who moves a version, why and when; `event` is the id of the event behind it, None where a person did it."""

    by: str
    reason: str
    at: datetime
    event: str | None = None


def move(store: Store, version: ModelVersion, after: Stage, cause: Cause, deed: Deed) -> ModelVersion:
    """`version` in its new stage, kept, with its row of history."""
    moved = replace(version, stage=after)
    store.keep(moved)
    before = None if cause == "registered" else version.stage
    store.record(
        version.name,
        Transition(version.version, before, after, cause, deed.by, deed.reason, deed.at, deed.event),
    )
    return moved


def promote(
    store: Store, version: ModelVersion, cause: Literal["gate", "promote", "rollback"], deed: Deed
) -> Iterable[Event]:
    """Puts `version` into production and archives the one that was there; nothing happens where it is there already."""
    store.lock(version.name)
    before = store.production(version.name)
    if before is not None and before.version == version.version:
        return ()
    if before is not None:
        superseded = replace(deed, reason=f"version {version.version} took its place")
        move(store, before, "archived", "superseded", superseded)
    moved = move(store, replace(version, detail=deed.reason, failed=()), "production", cause, deed)
    return (promoted(moved, before, by=deed.by, cause=cause, detail=deed.reason),)


def rollback(store: Store, name: str, deed: Deed) -> tuple[ModelVersion, Iterable[Event]]:
    """Puts the version before the present one back into production.

    Raises:
        NothingBefore: there is none.
    """
    store.lock(name)
    number = previous(store.history(name))
    version = None if number is None else store.version(name, number)
    if version is None:
        raise NothingBefore(
            f"no version of {name!r} was in production before the present one; promote one by its number instead"
        )
    return version, promote(store, version, "rollback", deed)
