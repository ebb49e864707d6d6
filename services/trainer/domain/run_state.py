"""The life of a run as it is kept and shown: queued, done, failed, cancelled or superseded. Knows no tensor and no table."""

from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from contracts.events.prep import DatasetFrozenV1
from contracts.events.trainer import ModelTrainedV1, RunFailedV1, RunProgressedV1
from contracts.project import ProjectSpec, Prompt, Train
from contracts.types import DatasetRef


class Run(BaseModel):
    """One training run; `figures` once it is done, `cause` and `detail` once it has failed."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    project: str
    project_revision: str
    dataset: DatasetRef
    created_at: datetime
    status: Literal["queued", "done", "failed", "cancelled", "superseded"] = "queued"
    started_at: datetime | None = None
    figures: dict[str, float] | None = None
    left_out: dict[str, int] | None = None
    cause: str | None = None
    detail: str | None = None
    successor: str | None = None


class Order(BaseModel):
    """What a job of training is given, as JSON: the dataset's references, the base's name, prompt and recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    project_revision: str
    dataset: DatasetRef
    base: str
    prompt: Prompt
    recipe: Train


def plan(event: DatasetFrozenV1, spec: ProjectSpec, at: datetime) -> tuple[Run, Order]:
    """The run that a dataset asks for. A dataset is trained on once for each revision of its project."""
    same = sha256(f"{event.project_revision} {event.dataset.version}".encode()).hexdigest()[:8]
    run_id = f"{event.project}-{event.dataset.number}-{same}"
    run = Run(
        run_id=run_id,
        project=event.project,
        project_revision=event.project_revision,
        dataset=event.dataset,
        created_at=at,
    )
    order = Order(
        run_id=run_id,
        project_revision=event.project_revision,
        dataset=event.dataset,
        base=spec.base,
        prompt=spec.prompt,
        recipe=spec.train,
    )
    return run, order


def progressed(run: Run, progress: dict[str, Any]) -> RunProgressedV1:
    """The event for a progress that the job reported."""
    return RunProgressedV1.model_validate({**progress, "project": run.project, "run_id": run.run_id})


def trained(run: Run, result: dict[str, Any], spec: ProjectSpec | None) -> ModelTrainedV1:
    """The event for the result of a job."""
    ours = run.model_dump(include={"project", "project_revision", "run_id", "dataset"})
    return ModelTrainedV1.model_validate({**result, **ours, "spec": spec})


def failed(run: Run, cause: str, detail: str) -> RunFailedV1:
    """The event for a run that ended without a model."""
    return RunFailedV1(project=run.project, run_id=run.run_id, dataset=run.dataset, cause=cause, detail=detail)


def superseded(run: Run, by: Run) -> tuple[Run, RunFailedV1]:
    """A run that had not begun when the dataset of another came, as it ends, and the event that says so."""
    detail = f"dataset {by.dataset.number} came before this run began; run {by.run_id} trains on it"
    changes = {"status": "superseded", "cause": "superseded", "detail": detail, "successor": by.run_id}
    event = failed(run, "superseded", detail).model_copy(update={"successor": by.run_id})
    return run.model_copy(update=changes), event


def supersedes(new: Run, old: Run) -> bool:
    """Whether the newer run makes the older one needless: the same project's later dataset, or its later revision."""
    return new.project == old.project and new.dataset.number >= old.dataset.number
