"""What the registry does on each event: versions, the gate's verdict, promotion, what serving made of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from contracts.envelope import Event, Meta
from contracts.events.evaluator import EvaluationFailedV1, ModelScoredV1
from contracts.events.serving import DeploymentChangedV1
from contracts.events.trainer import ModelTrainedV1
from services.chassis.errors import Park
from services.chassis.storage.projects import specification
from services.registry.deployments import note_deployment
from services.registry.domain.version import ModelVersion, registered
from services.registry.judgement import GATE, judge, rejudge_open, requested_id
from services.registry.prompt_candidates import on_new_weights
from services.registry.store import Store
from services.registry.transitions import Action, move


def on_model_trained(event: ModelTrainedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Gives a trained model its version; a run has one, however often it is told.

    Where the project's prompt was replaced while it trained, its weights are a candidate under the new one instead.
    """
    store.lock(event.project)
    if store.of_run(event.run_id) is not None:
        return ()
    newest = store.newest(event.project)
    number = newest.version + 1 if newest else 1
    known = store.projects.at(event.project, event.project_revision) or event.spec
    version = ModelVersion(
        event.project,
        number,
        "candidate",
        event,
        meta.time,
        detail="waiting for its evaluation",
        prompt_version=store.prompt_number(event.project, known.prompt) if known else None,
    )
    action = Action("trainer", f"run {event.run_id}", meta.time, meta.id)
    version = move(store, version, "candidate", "registered", action)
    return (registered(version), *on_new_weights(store, version, action))


def on_model_scored(event: ModelScoredV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Keeps the figures and asks the gate; a version that is no candidate any more stays where it is."""
    store.lock(event.project)
    version = _version(store, event.run_id)
    if version.stage == "candidate":
        specification(event, store)  # parks where nobody has told it yet
    champion = store.champion(version.name)
    if version.awaited is not None and event.champion.version not in (
        version.awaited,
        champion.version if champion else 0,
    ):
        return ()  # a newer evaluation is on its way; this one is against a champion of before
    version = replace(version, scored=event, evaluation="done", awaited=None)
    store.keep(version)
    action = Action(GATE, "", meta.time, meta.id)
    events = judge(store, version, action)
    return [*events, *rejudge_open(store, version.name, champion, action)]


def on_evaluation_failed(event: EvaluationFailedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Shows the cause on the candidate, which stays one: it can be evaluated again, or rejected by a person."""
    store.lock(event.project)
    version = _version(store, event.run_id)
    overtaken = version.awaited is not None and event.evaluation_id not in (None, requested_id(version))
    if version.stage != "candidate" or overtaken:
        return ()
    reason = f"evaluation failed: {event.cause}: {event.detail}"
    action = Action("evaluator", reason, meta.time, meta.id)
    failed = replace(version, detail=reason, evaluation="failed", awaited=None)
    move(store, failed, "candidate", "evaluation", action)
    return ()


def on_deployment_changed(event: DeploymentChangedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Notes whether a promoted version serves; the champion is the one that does."""
    return note_deployment(store, event, Action("serving", event.detail, meta.time, meta.id))


def _version(store: Store, run_id: str) -> ModelVersion:
    version = store.of_run(run_id)
    if version is None:
        raise Park("unknown_run", f"run {run_id!r} has no version yet; its trainer.model.trained has not arrived")
    return version


HANDLERS: Mapping[type[Event], Callable[[Any, Meta, Any], Iterable[Event]]] = {
    ModelTrainedV1: on_model_trained,
    ModelScoredV1: on_model_scored,
    EvaluationFailedV1: on_evaluation_failed,
    DeploymentChangedV1: on_deployment_changed,
}
