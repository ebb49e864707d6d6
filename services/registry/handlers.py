"""What the registry does on each event: versions, the gate's verdict, promotion. Knows neither Kafka nor SQL."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from contracts.envelope import Event, Meta
from contracts.events.evaluator import EvaluationFailedV1, ModelScoredV1
from contracts.events.trainer import ModelTrainedV1
from services.chassis.errors import Park
from services.chassis.storage.projects import specification
from services.registry.domain.verdict import decide
from services.registry.domain.version import ModelVersion, registered, rejected, score, standing
from services.registry.store import Store
from services.registry.transitions import Deed, move, promote

GATE = "gate"


def on_model_trained(event: ModelTrainedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Gives a trained model its version; a run has one, however often it is told."""
    store.lock(event.project)
    if store.of_run(event.run_id) is not None:
        return ()
    number = store.next_version(event.project)
    version = ModelVersion(event.project, number, "candidate", event, meta.time, detail="waiting for its evaluation")
    move(store, version, "candidate", "registered", Deed("trainer", f"run {event.run_id}", meta.time, meta.id))
    return (registered(version),)


def on_model_scored(event: ModelScoredV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Keeps the figures and asks the gate; a version that a person has moved meanwhile stays where it is."""
    store.lock(event.project)
    version = replace(_version(store, event.run_id), scored=event)
    if version.stage != "candidate":
        store.keep(version)
        return ()
    verdict = decide(specification(event, store), score(event), standing(store.production(version.name)))
    deed = Deed(GATE, verdict.detail, meta.time, meta.id)
    match verdict.decision:
        case "promote":
            return promote(store, version, "gate", deed)
        case "wait":
            move(store, replace(version, detail=verdict.detail), "candidate", "gate", deed)
            return ()
        case "reject":
            return _reject(store, replace(version, failed=verdict.failed, detail=verdict.detail), deed)


def on_evaluation_failed(event: EvaluationFailedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Rejects a candidate that could not be measured."""
    store.lock(event.project)
    version = _version(store, event.run_id)
    if version.stage != "candidate":
        return ()
    reason = f"evaluation failed: {event.cause}: {event.detail}"
    deed = Deed("evaluator", reason, meta.time, meta.id)
    return _reject(store, replace(version, failed=(reason,), detail=reason), deed)


def _reject(store: Store, version: ModelVersion, deed: Deed) -> Iterable[Event]:
    return (rejected(move(store, version, "rejected", "gate" if deed.by == GATE else "evaluation", deed)),)


def _version(store: Store, run_id: str) -> ModelVersion:
    version = store.of_run(run_id)
    if version is None:
        raise Park("unknown_run", f"run {run_id!r} has no version yet; its trainer.model.trained has not arrived")
    return version


HANDLERS: Mapping[type[Event], Callable[[Any, Meta, Any], Iterable[Event]]] = {
    ModelTrainedV1: on_model_trained,
    ModelScoredV1: on_model_scored,
    EvaluationFailedV1: on_evaluation_failed,
}
