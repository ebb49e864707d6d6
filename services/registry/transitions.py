"""Moves versions between stages: each move is a row of history, each promotion an event. Knows no gate."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from contracts.envelope import Event
from contracts.events.registry import ProjectDefinedV1
from contracts.types import ModelRef
from services.registry.domain.history import Cause, Stage, Transition
from services.registry.domain.promotion import Promotion, PromotionCause
from services.registry.domain.version import ModelVersion, promoted, rejected
from services.registry.store import Store


class NothingBefore(LookupError):
    """There is nothing that a rollback could return to."""


class NotACandidate(ValueError):
    """Only a candidate can be rejected, or measured to be judged."""


@dataclass(frozen=True, slots=True)
class Action:
    """Who moves a version, why and when; `event` is the id of the event behind it, None where a person did it."""

    by: str
    reason: str
    at: datetime
    event: str | None = None


def move(store: Store, version: ModelVersion, after: Stage, cause: Cause, action: Action) -> ModelVersion:
    """`version` in its new stage, kept, with its row of history."""
    moved = replace(version, stage=after)
    store.keep(moved)
    before = None if cause == "registered" else version.stage
    write_history(store, version.name, version.version, before, after, cause, action)
    return moved


def write_history(
    store: Store, name: str, version: int, before: Stage | None, after: Stage, cause: Cause, action: Action
) -> None:
    """Adds an entry to a model's history."""
    store.record(name, Transition(version, before, after, cause, action.by, action.reason, action.at, action.event))


def promote(store: Store, version: ModelVersion, cause: PromotionCause, action: Action) -> Iterable[Event]:
    """Puts `version` into production and archives the one that was there; a project out of service is back in it.

    Nothing happens where it is there already, unless serving could not deploy it: then it is to try again.
    """
    store.lock(version.name)
    if version.stage == "production" and version.deployment not in ("failed", "removed"):
        return ()
    before = _archive(store, version.name, version.version, action)
    detail = {"detail": action.reason, "failed": (), "deployment": "pending", "deployment_detail": ""}
    moved = move(store, replace(version, **detail), "production", cause, action)
    event = promoted(moved, _push(store, version.name, version.version, cause, action, version.prompt_version), before)
    return (*_in_service(store, version.name, action), event)


def promote_base(store: Store, name: str, action: Action) -> Iterable[Event]:
    """Lets the base, version 0, answer again.

    Raises:
        NothingBefore: no version was ever registered, so the base's files are not known.
    """
    store.lock(name)
    measured_beside = store.production(name) or store.newest(name)
    if measured_beside is None:
        raise NothingBefore(f"no version of {name!r} is registered yet, so its base is not known; train one first")
    before = _archive(store, name, 0, action)
    write_history(store, name, 0, None, "production", "rollback", action)
    current = store.projects.current(name)
    prompt = store.prompt_number(name, current[1].prompt) if current else None
    promotion = _push(store, name, 0, "rollback", action, prompt)
    event = promoted(measured_beside, promotion, before, current)
    return (*_in_service(store, name, action), event)


def rollback(store: Store, name: str, action: Action, to: int | None = None) -> tuple[int, Iterable[Event]]:
    """Puts the version before the present one back into production, or the version `to`; 0 is the base.

    Raises:
        NothingBefore: there is none.
    """
    store.lock(name)
    number = _before(store, name) if to is None else to
    top = store.promotion(name, store.promotions(name))
    if number == 0:
        if top is not None and top.version == 0 and top.status != "failed" and store.retired_after(name) is None:
            raise NothingBefore(f"the base of {name!r} is what answers already")
        return 0, promote_base(store, name, action)
    version = store.version(name, number)
    if version is None or store.promotion_of(name, number) is None:
        raise NothingBefore(f"{name}@{number} was never in production; `noria promote {name}@{number}` puts it there")
    return number, promote(store, version, "rollback", action)


def reject(store: Store, version: ModelVersion, action: Action) -> Iterable[Event]:
    """Rejects a candidate by hand.

    Raises:
        NotACandidate: it is none.
    """
    if version.stage != "candidate":
        raise NotACandidate(f"{version.name}@{version.version} is {version.stage}; only a candidate can be rejected")
    detail = action.reason or f"rejected by {action.by}"
    return (rejected(move(store, replace(version, detail=detail), "rejected", "reject", action), action.by),)


def _in_service(store: Store, name: str, action: Action) -> Iterable[Event]:
    """A promotion brings a project back that was taken out of service; everyone hears it, with its specification."""
    known = store.projects.current(name)
    if store.retired_after(name) is None or known is None:
        return ()
    store.retire(name, None)
    sequence = store.projects.next_sequence(name, action.at)
    prompt = store.prompt_number(name, known[1].prompt)
    event = ProjectDefinedV1(project=name, revision=known[0], spec=known[1], sequence=sequence, prompt_version=prompt)
    store.projects.remember(event, action.at)
    return (event,)


def _archive(store: Store, name: str, successor: int, action: Action) -> ModelRef | None:
    """Takes the version in production out of it where `successor` is another one; the one that was there."""
    before = store.production(name)
    if before is None or before.version == successor:
        return before and before.ref
    what = f"version {successor} took its place" if successor else "the base took its place"
    move(store, before, "archived", "superseded", replace(action, reason=what))
    return before.ref


def _before(store: Store, name: str) -> int:
    """The version of the promotion below the present one; 0 where the base was there."""
    top = store.promotion(name, store.promotions(name))
    if top is None or top.version == 0:
        raise NothingBefore(f"nothing was in production in {name!r} before; promote a version by its number instead")
    below = deployable(store, name, top.below)
    return 0 if below is None else below.version


def _push(
    store: Store, name: str, version: int, cause: PromotionCause, action: Action, prompt_version: int | None
) -> Promotion:
    """The next promotion of the model, kept: on top of the one in force, or in the place of the one it returns to."""
    newest = store.promotions(name)
    repeated = store.promotion_of(name, version) if cause == "rollback" else None
    if cause == "rollback":
        below = repeated.below if repeated else None
    else:
        top = deployable(store, name, newest)
        below = top and top.number
    promotion = Promotion(
        newest + 1, version, below, cause, action.by, action.reason, action.at, prompt_version=prompt_version
    )
    store.keep_promotion(name, promotion)
    return promotion


def deployable(store: Store, name: str, number: int | None) -> Promotion | None:
    """The promotion `number`, or the first below it that serving did not fail to deploy."""
    while number:
        found = store.promotion(name, number)
        if found is None or found.status != "failed":
            return found
        number = found.below
    return None
