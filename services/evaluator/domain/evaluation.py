"""An evaluation as it is kept and shown: what is measured, against whom, and what came of it. Knows no table."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from contracts.events.evaluator import ModelScoredV1
from contracts.events.registry import ModelPromotedV1
from contracts.events.trainer import ModelTrainedV1
from contracts.project import ProjectSpec, Prompt
from contracts.types import DatasetRef, ModelRef
from services.evaluator.domain.task import Outcome, Part, PredictionsRef, Subject, Task, untouched

Status = Literal["queued", "running", "done", "failed"]


class Evaluation(Part):
    """One candidate's evaluation; `outcome` once it is done, `cause` and `detail` once it has failed."""

    evaluation_id: str
    run_id: str
    project: str
    project_revision: str
    dataset: DatasetRef
    champion: ModelRef
    created_at: datetime
    status: Status = "queued"
    outcome: Outcome | None = None
    cause: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Champion:
    """The promotion in force, and the prompt that it is served under."""

    promotion: ModelPromotedV1
    prompt: Prompt


def evaluation_id(run_id: str) -> str:
    """The id of a run's first evaluation; the registry names those that it asks for."""
    return f"eval-{run_id}"


def plan(
    trained: ModelTrainedV1, spec: ProjectSpec, current: ProjectSpec, champion: Champion | None, at: datetime, id: str
) -> tuple[Evaluation, Task]:
    """What to measure of a trained model: on the held-out split (validation where the project says so), against `champion`.

    Each as it is or would be served: candidate and champion under the prompt of the revision they were trained with, the base
    under today's, answers as long as today's policy allows. `spec` is the revision of the training, `current` today's.
    Without a champion, or where the project compares with the base, the champion is the candidate's base, version 0.
    """
    base = untouched(trained.base, current.prompt)
    is_base = spec.evaluate.compare == "base" or champion is None or champion.promotion.model.version == 0
    against = None if is_base else champion
    task = Task(
        evaluation_id=id,
        suite=spec.evaluate.suite,
        max_tokens=current.serve.max_tokens,
        split=trained.dataset.files.get("held_out" if spec.evaluate.held_out else "validation"),
        candidate=Subject(kind=trained.kind, base=trained.base, files=trained.files, prompt=spec.prompt),
        champion=base if against is None else _served(against),
        base=base,
        require=tuple(map(str, spec.gate.rules)),
        right=spec.evaluate.right,
        judge=spec.evaluate.judge,
        project=trained.project,
    )
    evaluation = Evaluation(
        evaluation_id=task.evaluation_id,
        run_id=trained.run_id,
        project=trained.project,
        project_revision=trained.project_revision,
        dataset=trained.dataset,
        champion=ModelRef(name=trained.project, version=0) if against is None else against.promotion.model,
        created_at=at,
    )
    return evaluation, task


def with_predictions(task: Task, known: tuple[PredictionsRef, ...]) -> Task:
    """`task` with what its models predicted before."""
    return task.model_copy(update={"predictions": known})


def _served(champion: Champion) -> Subject:
    promotion = champion.promotion
    return Subject(kind=promotion.kind, base=promotion.base, files=promotion.files, prompt=champion.prompt)


def scored(evaluation: Evaluation, outcome: Outcome, spec: ProjectSpec | None) -> ModelScoredV1:
    """The event that says what was measured."""
    return ModelScoredV1(
        project=evaluation.project,
        project_revision=evaluation.project_revision,
        run_id=evaluation.run_id,
        evaluation_id=evaluation.evaluation_id,
        dataset=evaluation.dataset,
        champion=evaluation.champion,
        metrics=outcome.metrics,
        champion_metrics=outcome.champion_metrics,
        base_metrics=outcome.base_metrics,
        differences=outcome.differences,
        results=outcome.results,
        spec=spec,
        tests=outcome.tests,
        held_out=outcome.held_out,
        slices=outcome.slices,
        regressions=outcome.regressions,
        judge=outcome.judge,
    )
