"""What serving made of promotions: what it could not deploy is no champion."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from contracts.envelope import Event
from contracts.events.serving import DeploymentChangedV1
from services.chassis.errors import Park
from services.registry.domain.history import Cause
from services.registry.domain.promotion import Promotion
from services.registry.judgement import OPEN, rejudge_open
from services.registry.store import Store
from services.registry.transitions import Action, move, write_history

_CAUSES: Mapping[str, Cause] = {
    "deployed": "deployed",
    "failed": "deployment_failed",
    "removed": "deployment_removed",
}


def note_deployment(store: Store, event: DeploymentChangedV1, action: Action) -> Iterable[Event]:
    """Writes down what became of a promotion; where that changes what serves, open candidates are judged again.

    Raises:
        Park: the promotion is not known here yet.
    """
    store.lock(event.project)
    before = store.champion(event.project)
    promotion = _promotion(store, event)
    store.keep_promotion(event.project, replace(promotion, status=event.status, status_detail=event.detail))
    _show_on_version(store, event, promotion, action)
    if event.status == "failed":
        _reopen(store, event.project, promotion, action)
    return rejudge_open(store, event.project, before, action)


def _promotion(store: Store, event: DeploymentChangedV1) -> Promotion:
    """The promotion that the event names; an older serving names the version alone."""
    name, version = event.project, event.model.version
    found = store.promotion(name, event.promotion) if event.promotion else store.promotion_of(name, version)
    if found is None:
        raise Park("unknown_promotion", f"no promotion of {name}@{version} is known here yet")
    return found


def _show_on_version(store: Store, event: DeploymentChangedV1, promotion: Promotion, action: Action) -> None:
    version, name = store.version(event.project, promotion.version), event.project
    stage = version.stage if version else "production"
    write_history(store, name, promotion.version, stage, stage, _CAUSES[event.status], action)
    newest = store.promotion_of(name, promotion.version)
    if version and newest and newest.number == promotion.number:
        store.keep(replace(version, deployment=event.status, deployment_detail=event.detail))


def _reopen(store: Store, name: str, failed: Promotion, action: Action) -> None:
    """Makes those candidates again that the gate rejected for being no better than a version that never served."""
    if failed.version == 0 or store.was_deployed(name, failed.version):
        return
    why = replace(action, reason=f"version {failed.version}, which it was measured against, could not be deployed")
    for version in store.in_stage(name, "rejected", OPEN):
        if version.failed and version.scored and version.scored.champion.version == failed.version:
            move(store, replace(version, failed=(), detail=why.reason), "candidate", "reopened", why)
