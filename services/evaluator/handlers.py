"""What the evaluator does on each event and at the end of each job. Knows neither Kafka nor SQL nor a model's inside."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from contracts.envelope import Event, Meta
from contracts.events.evaluator import EvaluationFailedV1
from contracts.events.registry import EvaluationRequestedV1, ModelPromotedV1, ProjectDefinedV1
from contracts.events.trainer import ModelTrainedV1
from contracts.project import ProjectSpec
from services.chassis.jobs.job import Job
from services.chassis.jobs.queue import Failure
from services.chassis.storage import projects
from services.chassis.storage.projects import specification
from services.evaluator.domain.evaluation import Champion, Evaluation, evaluation_id, plan, scored, with_predictions
from services.evaluator.domain.task import Outcome
from services.evaluator.store import Store

KIND = "evaluate"
RETIRED = Failure(
    "project_retired", "the project is out of service; once it is back `noria evaluate` measures the model"
)


def on_model_trained(event: ModelTrainedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Enqueues the measurement of a candidate against the champion of this moment."""
    return _enqueue(store, event, store.champion(event.project), meta, evaluation_id(event.run_id))


def on_evaluation_requested(event: EvaluationRequestedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Enqueues the measurement of a candidate against the champion that the registry names, each under its own prompt."""
    if event.champion is not None and event.champion.spec is not None:  # its promotion may come after
        store.projects.learn(event.project, event.champion.project_revision, event.champion.spec)
    return _enqueue(store, event.candidate, event.champion, meta, event.evaluation_id)


def on_model_promoted(event: ModelPromotedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Candidates are compared with this version from now on."""
    if event.spec is not None:
        store.projects.learn(event.project, event.project_revision, event.spec)
    store.set_champion(event)
    return ()


def on_evaluated(store: Store, job: Job, result: dict[str, Any]) -> Iterable[Event]:
    """Keeps the figures and says them."""
    evaluation, outcome = _evaluation(store, job), Outcome.model_validate(result)
    ended = {"status": "done", "outcome": outcome, "cause": None, "detail": None}
    store.keep(evaluation.model_copy(update=ended))
    store.keep_predictions(outcome.predictions, evaluation.created_at)
    return [scored(evaluation, outcome, store.projects.at(evaluation.project, evaluation.project_revision))]


def on_failed(store: Store, job: Job, failure: Failure) -> Iterable[Event]:
    """Keeps the cause and says it."""
    evaluation = _evaluation(store, job)
    ended = {"status": "failed", "cause": failure.code, "detail": failure.detail}
    store.keep(evaluation.model_copy(update=ended))
    return [_failed(evaluation.project, evaluation.run_id, failure, evaluation.evaluation_id)]


def _failed(project: str, run_id: str, failure: Failure, id: str) -> EvaluationFailedV1:
    cause, detail = failure.code, failure.detail
    return EvaluationFailedV1(project=project, run_id=run_id, cause=cause, detail=detail, evaluation_id=id)


def _enqueue(
    store: Store, trained: ModelTrainedV1, champion: ModelPromotedV1 | None, meta: Meta, id: str
) -> Iterable[Event]:
    """Plans an evaluation once; none for a project that was taken out of service, whose candidate waits for a person."""
    if store.projects.is_retired(trained.project):
        return [_failed(trained.project, trained.run_id, RETIRED, id)]
    spec = specification(trained, store)
    current = _current(trained.project, spec, store)
    evaluation, task = plan(trained, spec, current, champion and _served(champion, current, store), meta.time, id)
    if store.evaluation(id) is not None:
        return ()
    models = {task.candidate.model, task.champion.model, task.base.model}
    task = with_predictions(task, store.use_predictions(models, meta.time))
    store.keep(evaluation)
    store.jobs.enqueue(KIND, id, task.model_dump(mode="json"), project=trained.project)
    return ()


def _current(project: str, otherwise: ProjectSpec, store: Store) -> ProjectSpec:
    known = store.projects.current(project)
    return known[1] if known else otherwise


def _served(promotion: ModelPromotedV1, current: ProjectSpec, store: Store) -> Champion:
    """With the prompt of the revision it was trained with; where that is not known, today's, as serving does."""
    return Champion(promotion, (store.projects.at(promotion.project, promotion.project_revision) or current).prompt)


def _evaluation(store: Store, job: Job) -> Evaluation:
    found = store.evaluation(job.id)
    if found is None:
        raise LookupError(f"job {job.id!r} has no evaluation; its row was removed by hand")
    return found


def on_project_defined(event: ProjectDefinedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Remembers what the project wants; the evaluations of one that was taken out of service end."""
    projects.on_project_defined(event, meta, store)
    if store.projects.is_retired(event.project):
        store.jobs.cancel_project(KIND, event.project)
    return ()


HANDLERS: Mapping[type[Event], Callable[[Any, Meta, Any], Iterable[Event]]] = {
    ModelTrainedV1: on_model_trained,
    ModelPromotedV1: on_model_promoted,
    EvaluationRequestedV1: on_evaluation_requested,
    ProjectDefinedV1: on_project_defined,
}
