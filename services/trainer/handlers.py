"""What the trainer does on each event and on each word of a job. Knows neither Kafka nor SQL nor a tensor."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from contracts.envelope import Event, Meta
from contracts.events.prep import DatasetFrozenV1
from contracts.events.registry import ModelPromotedV1, ProjectDefinedV1
from contracts.project import ProjectSpec, same_weights
from services.chassis.jobs.job import Job
from services.chassis.jobs.queue import Failure
from services.chassis.storage import projects
from services.chassis.storage.projects import specification
from services.trainer.domain.run_state import (
    Run,
    champion_of,
    failed,
    plan,
    progressed,
    superseded,
    supersedes,
    trained,
)
from services.trainer.store import Store

KIND = "train"
"""The kind of the job."""
LOOKED_BACK = 50
"""So many runs of a project, the newest, are looked through for one on the dataset that is announced again, and for
log-probabilities of the champion."""


def on_dataset_frozen(event: DatasetFrozenV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Enqueues the run that the project's recipe asks for, in the place of those that have not begun.

    None for a project that was taken out of service, and none where nothing but the prompt changed since a run on this dataset:
    the registry makes a candidate of that run's weights.
    """
    if store.projects.is_retired(event.project):
        return ()
    spec = specification(event, store)
    champion = champion_of(store.champion(event.project))
    run, order = plan(event, spec, meta.time, champion, store.runs(event.project, LOOKED_BACK))
    if store.run(run.run_id) is not None or _weights_come(run, spec, store):
        return ()
    ended = supersede(run, store)
    store.keep(run)
    store.jobs.enqueue(KIND, run.run_id, order.model_dump(mode="json"), project=event.project)
    return ended


def _weights_come(run: Run, spec: ProjectSpec, store: Store) -> bool:
    """Whether a run makes, or made, these weights under another prompt."""
    for other in store.runs(run.project, LOOKED_BACK):
        if other.status in ("queued", "done") and other.dataset.version == run.dataset.version:
            then = store.projects.at(other.project, other.project_revision)
            if then is not None and then.prompt != spec.prompt and same_weights(then, spec):
                return True
    return False


def supersede(run: Run, store: Store) -> list[Event]:
    """Ends the runs that `run` makes needless: a stream that freezes faster than it trains has one run waiting.

    What has begun goes on, and what a person queued anew is not taken away.
    """
    events: list[Event] = []
    for id in store.jobs.never_leased(KIND, run.project):
        old = store.run(id)
        # A state that is built anew from the log knows that a run ended, and of no job that it began.
        if old is None or old.status != "queued" or not supersedes(run, old):
            continue
        ended, event = superseded(old, run)
        if store.jobs.cancel_queued(id, Failure("superseded", event.detail)) is not None:
            store.keep(ended)
            events.append(event)
    return events


def on_progress(store: Store, job: Job, progress: dict[str, Any]) -> Iterable[Event]:
    """Says where the run stands, once it has made steps."""
    run = _run(store, job)
    if run.started_at is None:
        store.keep(run.model_copy(update={"started_at": datetime.fromisoformat(progress["started_at"])}))
    return (progressed(run, progress),) if progress.get("step") else ()


def on_trained(store: Store, job: Job, result: dict[str, Any]) -> Iterable[Event]:
    """Keeps the figures and announces the model."""
    run = _run(store, job)
    event = trained(run, result, store.projects.at(run.project, run.project_revision))
    ended = {"status": "done", "figures": event.figures, "left_out": event.left_out, "references": event.references}
    store.keep(run.model_copy(update={**ended, "cause": None, "detail": None, "successor": None}))
    return (event,)


def on_failed(store: Store, job: Job, failure: Failure) -> Iterable[Event]:
    """Keeps the cause and says it."""
    run = _run(store, job)
    status = "cancelled" if failure.code == "cancelled" else "failed"
    ended = {"status": status, "cause": failure.code, "detail": failure.detail, "successor": None}
    store.keep(run.model_copy(update=ended))
    return (failed(run, failure.code, failure.detail),)


def _run(store: Store, job: Job) -> Run:
    found = store.run(job.id)
    if found is None:
        raise LookupError(f"job {job.id!r} has no run; its row was removed by hand")
    return found


def on_project_defined(event: ProjectDefinedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Remembers what the project wants; the trainings of one that was taken out of service end."""
    projects.on_project_defined(event, meta, store)
    if store.projects.is_retired(event.project):
        store.jobs.cancel_project(KIND, event.project)
    return ()


def on_model_promoted(event: ModelPromotedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Preference tuning begins at this version from now on. Runs that are planned already keep to the one before."""
    store.set_champion(event)
    return ()


HANDLERS: Mapping[type[Event], Callable[[Any, Meta, Any], Iterable[Event]]] = {
    DatasetFrozenV1: on_dataset_frozen,
    ProjectDefinedV1: on_project_defined,
    ModelPromotedV1: on_model_promoted,
}
