"""An evaluation as it is kept and shown: what is measured, against whom, and what came of it. Knows no table."""

from datetime import datetime
from typing import Literal

from contracts.events.evaluator import ModelScoredV1
from contracts.events.registry import ModelPromotedV1
from contracts.events.trainer import ModelTrainedV1
from contracts.project import ProjectSpec
from contracts.types import DatasetRef, ModelRef
from services.evaluator.domain.task import Outcome, Part, SheetRef, Subject, Task, untouched

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


def evaluation_id(run_id: str) -> str:
    """A run is evaluated once."""
    return f"eval-{run_id}"


def plan(
    trained: ModelTrainedV1, spec: ProjectSpec, champion: ModelPromotedV1 | None, at: datetime
) -> tuple[Evaluation, Task]:
    """What to measure of a trained model: on the held-out split (validation where the project says so), against `champion`.

    Without a champion, or where the project compares with the base, the champion is the candidate's base, version 0.
    """
    base = untouched(trained.base)
    against = None if spec.evaluate.compare == "base" else champion
    task = Task(
        evaluation_id=evaluation_id(trained.run_id),
        prompt=spec.prompt,
        suite=spec.evaluate.suite,
        max_tokens=spec.serve.max_tokens,
        split=trained.dataset.files.get("held_out" if spec.evaluate.held_out else "validation"),
        candidate=Subject(kind=trained.kind, base=trained.base, files=trained.files),
        champion=base if against is None else Subject(kind=against.kind, base=against.base, files=against.files),
        base=base,
    )
    evaluation = Evaluation(
        evaluation_id=task.evaluation_id,
        run_id=trained.run_id,
        project=trained.project,
        project_revision=trained.project_revision,
        dataset=trained.dataset,
        champion=ModelRef(name=trained.project, version=0) if against is None else against.model,
        created_at=at,
    )
    return evaluation, task


def with_sheets(task: Task, sheets: tuple[SheetRef, ...]) -> Task:
    """`task` with the answers that its models gave before."""
    return task.model_copy(update={"sheets": sheets})


def scored(evaluation: Evaluation, outcome: Outcome) -> ModelScoredV1:
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
    )
