"""A model version: what it was trained from, how it was measured, where it stands. Knows no table."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from contracts.events.evaluator import ModelScoredV1
from contracts.events.registry import ModelPromotedV1, ModelRegisteredV1, ModelRejectedV1
from contracts.events.trainer import ModelTrainedV1
from contracts.types import Metric, ModelRef
from services.registry.domain.history import Stage
from services.registry.domain.verdict import Score, Standing


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """`trained` and `scored` are the events as they came; `failed` names the rules that did not hold."""

    name: str
    version: int
    stage: Stage
    trained: ModelTrainedV1
    created_at: datetime
    scored: ModelScoredV1 | None = None
    detail: str = ""
    failed: tuple[str, ...] = ()

    @property
    def ref(self) -> ModelRef:
        """As events name it."""
        return ModelRef(name=self.name, version=self.version)

    @property
    def metrics(self) -> dict[str, Metric]:
        """Its figures; none before it is scored."""
        return dict(self.scored.metrics) if self.scored else {}


def score(scored: ModelScoredV1) -> Score:
    """The figures that a gate judges."""
    return Score(scored.dataset.version, scored.champion.version, scored.metrics, scored.champion_metrics)


def standing(production: ModelVersion | None) -> Standing:
    """What the version in production is to a gate; the base, version 0, where there is none."""
    if production is None:
        return Standing()
    scored = production.scored
    return Standing(production.version, scored and scored.dataset.version, scored and scored.metrics)


def registered(version: ModelVersion) -> ModelRegisteredV1:
    """The event that says that a trained model got its version."""
    return ModelRegisteredV1(
        project=version.trained.project,
        model=version.ref,
        run_id=version.trained.run_id,
        dataset=version.trained.dataset,
        project_revision=version.trained.project_revision,
    )


def promoted(
    version: ModelVersion,
    previous: ModelVersion | None,
    *,
    by: str,
    cause: Literal["gate", "promote", "rollback"],
    detail: str,
) -> ModelPromotedV1:
    """The model-ready event."""
    trained = version.trained
    return ModelPromotedV1(
        project=trained.project,
        model=version.ref,
        kind=trained.kind,
        base=trained.base,
        files=trained.files,
        dataset=trained.dataset,
        project_revision=trained.project_revision,
        run_id=trained.run_id,
        evaluation=version.scored.results if version.scored else None,
        metrics=version.metrics,
        previous=previous.ref if previous else None,
        by=by,
        cause=cause,
        detail=detail,
        spec=trained.spec,
    )


def rejected(version: ModelVersion) -> ModelRejectedV1:
    """The event that says that a candidate did not pass."""
    return ModelRejectedV1(
        project=version.trained.project,
        model=version.ref,
        run_id=version.trained.run_id,
        failed=version.failed,
        metrics=version.metrics,
    )
