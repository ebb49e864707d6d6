"""A training job, in a process of its own: fetches what it needs, trains, stores what came of it. Knows no Kafka and no SQL."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.training import Budget
from contracts.types import BaseRef
from services.chassis.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    ArtifactUnavailable,
    JobFailed,
    JobStopped,
)
from services.chassis.jobs.checkpoints import Uploader
from services.chassis.jobs.child import cancelled, stop_requested
from services.chassis.storage.artifacts import ArtifactStore, open_store
from services.lm import bases
from services.lm.base_files import base_ref
from services.lm.errors import LanguageModelError
from services.trainer.domain.failures import BadRecipe, Cancelled, of_base
from services.trainer.domain.run_state import Order
from services.trainer.domain.spec import Champion, Progress, Reference, TrainSpec
from services.trainer.settings import TrainerSettings

Report = Callable[[dict[str, Any]], None]


def run(spec: dict[str, Any], workdir: Path, report: Report) -> dict[str, Any]:
    """The job's entry: an Order as JSON in, the fields of ModelTrainedV1 that training decides out.

    Raises:
        JobFailed: with a code of domain/failures.py, or `dataset_unavailable`: a file of the dataset is lost or damaged.
        JobStopped: the service stops; a checkpoint lies in `workdir`.
        ArtifactUnavailable, OSError, MemoryError, ...: what services.chassis.jobs.failures tells apart.
    """
    try:
        return train(Order.model_validate(spec), workdir, report)
    except ArtifactUnavailable:
        raise
    except ArtifactError as error:
        raise JobFailed("dataset_unavailable", str(error)) from error
    except LanguageModelError as error:
        raise of_base(error) from error
    except Cancelled as error:
        if not cancelled(workdir):
            raise JobStopped(str(error)) from error
        raise


def train(order: Order, workdir: Path, report: Report) -> dict[str, Any]:
    """Train as ordered and put the files into the artifact store."""
    settings = TrainerSettings()
    artifacts = open_store(settings)
    began = datetime.now(UTC).isoformat()
    report({"started_at": began, "stage": "preparing"})
    directory = bases.resolve(order.base, settings.cache)
    base = base_ref(order.base, directory, artifacts.put_file)
    spec = spec_of(order, base, directory, artifacts, settings, workdir)

    def report_progress(progress: Progress) -> None:
        final = progress.step == progress.total_steps
        report({**progress.as_dict(), "started_at": began, "stage": "training", "final": final})

    # Torch is imported here, after the checks that need no torch, and only in this process.
    from services.lm.memory import keep_pages
    from services.trainer.compute import checkpoint
    from services.trainer.compute.run import train as compute

    keep_pages()
    checkpoint.take_over(workdir, artifacts)
    uploader = Uploader(artifacts, workdir, report, settings.checkpoint_upload_seconds)

    def saved(step: int, files: dict[str, Path], last: bool) -> None:
        if not last:
            uploader.offer(step, files)
        elif not cancelled(workdir):  # the machine may go for good
            uploader.flush(step, files)

    result = compute(spec, workdir, report_progress, lambda: stop_requested() or cancelled(workdir), saved)
    files = artifacts.put_directory(result.directory)
    return {
        "base": base.model_dump(mode="json"),
        "kind": result.kind,
        "files": {name: ref.model_dump(mode="json") for name, ref in files.items()},
        "weights": result.weights,
        "code": result.code,
        "environment": result.environment,
        "figures": result.figures,
        "left_out": result.left_out,
        "references": [told(reference, order, artifacts) for reference in result.references],
    }


def told(reference: Reference, order: Order, artifacts: ArtifactStore) -> dict[str, Any]:
    """A stage's reference as the event says it, its file in the store."""
    champion = order.champion if reference.of == "champion" else None
    return {
        "method": reference.method,
        "of": reference.of,
        "model": champion.model.model_dump(mode="json") if champion else None,
        "weights": reference.weights,
        "rows": reference.rows,
        "log_probabilities": artifacts.put_file(reference.file).model_dump(mode="json"),
    }


def spec_of(
    order: Order, base: BaseRef, directory: Path, artifacts: ArtifactStore, settings: TrainerSettings, workdir: Path
) -> TrainSpec:
    """The order with everything it refers to as local files.

    Raises:
        BadRecipe: the champion stands on another base, or money is to be spent and no price is known.
    """
    held = order.dataset.files.get("validation")
    return TrainSpec(
        base=directory,
        base_name=order.base,
        train=artifacts.get(order.dataset.files["train"]),
        validation=artifacts.get(held) if held else None,
        prompt=order.prompt,
        recipe=order.recipe,
        cache=settings.cache,
        identity={
            "base_digest": base.digest,
            "dataset_version": order.dataset.version,
            "project": order.dataset.project,
            "project_revision": order.project_revision,
        },
        checkpoint_seconds=settings.checkpoint_seconds,
        seconds=affordable_seconds(order.recipe.budget, settings.price_per_hour),
        champion=_champion(order, base, artifacts, workdir),
        reference=_known(order, artifacts),
    )


def affordable_seconds(budget: Budget, price_per_hour: float) -> float:
    """How long a run's steps may take.

    Raises:
        BadRecipe: it has a budget of money and an hour has no price.
    """
    time = math.inf if budget.time is None else budget.time.total_seconds()
    if budget.money is None:
        return time
    if not price_per_hour:
        raise BadRecipe(
            "train.budget.money: nobody said what an hour costs; set NORIA_TRAINER_PRICE_PER_HOUR, or give time"
        )
    return min(time, budget.money / price_per_hour * 3600)


def _champion(order: Order, base: BaseRef, artifacts: ArtifactStore, workdir: Path) -> Champion | None:
    champion = order.champion
    if champion is None:
        return None
    name = f"{champion.model.name}@{champion.model.version}"
    if champion.base != base.digest:
        raise BadRecipe(
            f"{name} is in production and stands on another base than {order.base!r}, so it is no reference for it; "
            f"begin with sft: train.stages: [sft, {', '.join(order.recipe.methods)}]"
        )
    directory = artifacts.materialise(champion.files, workdir / "champion")
    return Champion(name, directory, champion.kind, champion.weights)


def _known(order: Order, artifacts: ArtifactStore) -> Path | None:
    """What an earlier run kept; where it is lost it is computed anew."""
    try:
        return artifacts.get(order.reference) if order.reference else None
    except (ArtifactMissing, ArtifactCorrupt):
        return None
