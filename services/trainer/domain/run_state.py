"""The life of a run as it is kept and shown: queued, done, failed, cancelled or superseded. Knows no tensor and no table."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from contracts.events.prep import DatasetFrozenV1
from contracts.events.registry import ModelPromotedV1
from contracts.events.trainer import ModelTrainedV1, Reference, RunFailedV1, RunProgressedV1
from contracts.project import ProjectSpec, Prompt, Train
from contracts.types import ArtifactRef, DatasetRef, Files, ModelRef, Sha256
from services.lm.files import sha256_tree
from services.trainer.domain.stages import begins_at_champion


class Champion(BaseModel):
    """The version in production, from which a stage with a reference goes on."""

    model_config = ConfigDict(frozen=True)

    model: ModelRef
    kind: Literal["lora", "full"]
    base: Sha256
    """Digest of the base it stands on."""
    weights: Sha256
    files: Files


def champion_of(promotion: ModelPromotedV1 | None) -> Champion | None:
    """The champion of a promotion; None where the base itself answers: version 0, or no promotion yet."""
    if promotion is None or not promotion.files:
        return None
    return Champion(
        model=promotion.model,
        kind=promotion.kind,
        base=promotion.base.digest,
        weights=weights_digest(promotion.files),
        files=promotion.files,
    )


def weights_digest(files: Files) -> str:
    """SHA-256 of the weights' file; of the sorted lines 'path sha256' where there are several."""
    weights = {name: ref.sha256 for name, ref in files.items() if name.endswith(".safetensors")}
    return next(iter(weights.values())) if len(weights) == 1 else sha256_tree(weights)


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
    references: tuple[Reference, ...] = ()


class Order(BaseModel):
    """What a job of training is given, as JSON: the dataset's references, the base's name, prompt and recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    project_revision: str
    dataset: DatasetRef
    base: str
    prompt: Prompt
    recipe: Train
    champion: Champion | None = None
    """Where the first stage begins; None: at the base."""
    reference: ArtifactRef | None = None
    """Log-probabilities under that beginning, which an earlier run kept."""


def plan(
    event: DatasetFrozenV1,
    spec: ProjectSpec,
    at: datetime,
    champion: Champion | None = None,
    earlier: Sequence[Run] = (),
) -> tuple[Run, Order]:
    """The run that a dataset asks for. A dataset is trained on once for each revision of its project.

    A first stage with a reference begins at the champion, and knows what `earlier` runs, newest first, kept of it.
    """
    began = champion if begins_at_champion(spec.train) else None
    known = _known(began, earlier) if begins_at_champion(spec.train) else None
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
        champion=began,
        reference=known,
    )
    return run, order


def _known(champion: Champion | None, earlier: Sequence[Run]) -> ArtifactRef | None:
    """The newest log-probabilities under the champion, or under the base; of another base's the trainer sees it in the file."""
    wanted = {"of": "champion", "weights": champion.weights} if champion else {"of": "base"}
    kept = (reference for run in earlier for reference in run.references[:1])
    found = (r for r in kept if wanted.items() <= r.model_dump(include={"of", "weights"}).items())
    return next((reference.log_probabilities for reference in found), None)


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
