"""A training run as the service keeps it, and the job that computes it. Knows no tensor and no SQL."""

import hashlib
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from contracts.events.prep import DatasetFrozenV1
from contracts.events.trainer import ModelTrainedV1, RunFailedV1
from contracts.project import ProjectSpec
from contracts.types import BaseRef, DatasetRef, Files


class Run(BaseModel):
    """A run of one dataset under one project revision. `status`: queued, done, failed or cancelled."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    project: str
    project_revision: str
    dataset: DatasetRef
    status: str = "queued"
    cause: str | None = None
    detail: str | None = None
    figures: dict[str, float] | None = None
    created_at: datetime
    started_at: datetime | None = None


class Result(BaseModel):
    """What the job returns."""

    kind: str
    base: BaseRef
    files: Files
    weights: str
    code: str
    environment: str
    figures: dict[str, float]


def run_id(event: DatasetFrozenV1) -> str:
    """The same for the same dataset and project revision, so that announcing them twice trains once."""
    what = f"{event.project} {event.dataset.version} {event.project_revision}"
    return f"run-{hashlib.sha256(what.encode()).hexdigest()[:16]}"


def plan(event: DatasetFrozenV1, spec: ProjectSpec, at: datetime) -> tuple[Run, dict[str, Any]]:
    """The run of a dataset, and its job's specification."""
    run = Run(
        run_id=run_id(event),
        project=event.project,
        project_revision=event.project_revision,
        dataset=event.dataset,
        created_at=at,
    )
    job = {
        "run_id": run.run_id,
        "project_revision": event.project_revision,
        "dataset": event.dataset.model_dump(mode="json"),
        "base": spec.base,
        "prompt": spec.prompt.model_dump(mode="json"),
        "train": spec.train.model_dump(mode="json"),
    }
    return run, job


def trained(run: Run, result: Result) -> ModelTrainedV1:
    """The event that announces a model."""
    return ModelTrainedV1(
        project=run.project,
        project_revision=run.project_revision,
        run_id=run.run_id,
        dataset=run.dataset,
        **{name: getattr(result, name) for name in Result.model_fields},
    )


def failed(run: Run, cause: str, detail: str) -> RunFailedV1:
    """The event that says why there is no model."""
    return RunFailedV1(project=run.project, run_id=run.run_id, dataset=run.dataset, cause=cause, detail=detail)
