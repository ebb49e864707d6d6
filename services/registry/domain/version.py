"""A model version: what it was trained from, how it was measured, its stage, and the events that tell of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from contracts.events.evaluator import ModelScoredV1
from contracts.events.registry import ModelPromotedV1, ModelRegisteredV1, ModelRejectedV1
from contracts.events.trainer import ModelTrainedV1
from contracts.project import ProjectSpec
from contracts.types import Metric, ModelRef
from services.registry.domain.gate import Score
from services.registry.domain.history import Stage
from services.registry.domain.promotion import DeploymentStatus, Promotion
from services.registry.domain.verdict import Decision

EvaluationStatus = Literal["pending", "done", "failed", "outdated"]
"""`outdated`: done, but against another champion than serves by now, and no further evaluation is asked for by itself."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """`trained` and `scored` are the events as they came; `failed` names the rules that did not hold.

    `evaluation` says how the newest evaluation stands; `rounds` counts those that the registry or a person asked for,
    `awaited` is the champion's version of one that has not come yet. `deployment` is what serving made
    of the newest promotion, None where there was none. `decision` is the gate's newest, None before it.

    `prompt_version` is the prompt that it is served under, None where nobody counted it. `weights_of` is the version whose
    weights these are, under another prompt than that one's; then `trained` is that version's event with this revision and an
    id of its own.
    """

    name: str
    version: int
    stage: Stage
    trained: ModelTrainedV1
    created_at: datetime
    scored: ModelScoredV1 | None = None
    detail: str = ""
    failed: tuple[str, ...] = ()
    evaluation: EvaluationStatus = "pending"
    rounds: int = 0
    awaited: int | None = None
    deployment: DeploymentStatus | None = None
    deployment_detail: str = ""
    prompt_version: int | None = None
    weights_of: int | None = None
    decision: Decision | None = None

    @property
    def weights_version(self) -> int:
        """The version that was trained: its own, or the one whose weights it has."""
        return self.weights_of or self.version

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
    return Score(
        scored.champion.version,
        scored.metrics,
        scored.champion_metrics,
        scored.differences,
        scored.tests,
        scored.regressions,
        scored.judge,
    )


def registered(version: ModelVersion) -> ModelRegisteredV1:
    """The event that says that a model got its version; a specification comes along where none came with a training."""
    return ModelRegisteredV1(
        project=version.trained.project,
        model=version.ref,
        run_id=version.trained.run_id,
        dataset=version.trained.dataset,
        project_revision=version.trained.project_revision,
        prompt_version=version.prompt_version,
        weights_of=version.weights_of,
        spec=version.trained.spec if version.weights_of else None,
    )


def under_prompt(
    weights: ModelVersion, number: int, prompt_version: int, current: tuple[str, ProjectSpec], at: datetime
) -> ModelVersion:
    """Version `number`: the weights of another one under the prompt of the `current` revision, a candidate.

    Its run's id is that of the training with the prompt's number: a pair of weights and prompt is one version.
    """
    revision, spec = current
    told = {"run_id": prompt_run_id(weights, prompt_version), "project_revision": revision, "spec": spec}
    event = weights.trained.model_copy(update=told)
    return ModelVersion(
        weights.name, number, "candidate", event, at, prompt_version=prompt_version, weights_of=weights.version
    )


def prompt_run_id(weights: ModelVersion, prompt_version: int) -> str:
    """Under which the weights of a trained version are evaluated with another prompt."""
    return f"{weights.trained.run_id}-p{prompt_version}"


def promoted(
    version: ModelVersion,
    promotion: Promotion,
    previous: ModelRef | None = None,
    current: tuple[str, ProjectSpec] | None = None,
) -> ModelPromotedV1:
    """The model-ready event.

    For a promotion of the base (version 0) `version` is the one that it was last measured beside: the base has its
    dataset and its base figures, and the prompt of the project's `current` revision.
    """
    trained, scored, is_base = version.trained, version.scored, promotion.version == 0
    measured = scored.base_metrics if scored and is_base else version.metrics
    return ModelPromotedV1(
        project=trained.project,
        model=ModelRef(name=version.name, version=promotion.version),
        kind="lora" if is_base else trained.kind,
        base=trained.base,
        files={} if is_base else trained.files,
        dataset=trained.dataset,
        project_revision=current[0] if current else trained.project_revision,
        run_id=trained.run_id,
        evaluation=scored.results if scored else None,
        metrics=dict(measured),
        previous=previous,
        by=promotion.by,
        cause=promotion.cause,
        detail=promotion.detail,
        spec=current[1] if current else trained.spec,
        promotion=promotion.number,
        prompt_version=promotion.prompt_version,
        weights_of=None if is_base else version.weights_of,
    )


def rejected(version: ModelVersion, by: str) -> ModelRejectedV1:
    """The event that says that a candidate did not pass, or that a person rejected it."""
    return ModelRejectedV1(
        project=version.trained.project,
        model=version.ref,
        run_id=version.trained.run_id,
        failed=version.failed,
        metrics=version.metrics,
        by=by,
        detail=version.detail,
        evaluation_id=version.scored.evaluation_id if version.scored else None,
    )
