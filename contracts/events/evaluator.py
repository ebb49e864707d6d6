"""What the evaluator produces."""

from typing import ClassVar

from pydantic import Field

from contracts.envelope import Event
from contracts.evaluation import Regressions, Slices
from contracts.judge import JudgeReport
from contracts.project import ProjectSpec
from contracts.types import (
    ArtifactRef,
    DatasetRef,
    HeldOutRows,
    Metrics,
    ModelRef,
    PairedTest,
    ProjectName,
    Sha256,
)


class ModelScoredV1(Event):
    """A candidate and its champion measured on the same held-out rows."""

    TOPIC: ClassVar[str] = "evaluator.model.scored.v1"

    project: ProjectName
    project_revision: Sha256
    run_id: str
    evaluation_id: str
    dataset: DatasetRef
    champion: ModelRef
    metrics: Metrics
    champion_metrics: Metrics
    base_metrics: Metrics
    differences: Metrics
    """Candidate minus champion, paired by example."""
    results: ArtifactRef
    """Parquet: one row an example with the answers of candidate, champion and base and their figures."""
    spec: ProjectSpec | None = Field(
        default=None, description="What project_revision says: whoever never saw that definition needs no other event"
    )
    tests: dict[str, PairedTest] = Field(
        default_factory=dict[str, PairedTest],
        description="By rule of the project's gate that compares with the champion, as 'chrf > champion - 1'",
    )
    held_out: HeldOutRows | None = Field(default=None, description="The rows that were measured on")
    slices: Slices | None = Field(default=None, description="Differences by part of the rows")
    regressions: Regressions | None = Field(default=None, description="What became of questions that people corrected")
    judge: JudgeReport | None = Field(
        default=None,
        description="What the project's judge found; the metric `judge` of the figures above is its win rate",
    )


class EvaluationFailedV1(Event):
    """A candidate could not be measured."""

    TOPIC: ClassVar[str] = "evaluator.model.failed.v1"

    project: ProjectName
    run_id: str
    cause: str
    detail: str
    evaluation_id: str | None = Field(default=None, description="Which evaluation of the run")
