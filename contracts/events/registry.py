"""What the registry produces."""

from typing import ClassVar, Literal

from pydantic import Field

from contracts.envelope import Event
from contracts.events.trainer import ModelTrainedV1
from contracts.project import ProjectSpec
from contracts.types import ArtifactRef, BaseRef, DatasetRef, Files, Metrics, ModelRef, ProjectName, Sha256


class ProjectDefinedV1(Event):
    """What a project wants of every stage; the newest of a key is in force (compacted topic)."""

    TOPIC: ClassVar[str] = "registry.project.defined.v1"

    project: ProjectName
    revision: Sha256 = Field(description="Digest of the specification's canonical JSON")
    spec: ProjectSpec
    sequence: int | None = Field(
        default=None,
        ge=1,
        description="Grows with each definition of the project: the one with the greatest is in force, whatever ce_time says",
    )
    retired_after: int | None = Field(
        default=None,
        description="The project is out of service: promotions up to this number are served no more. Null: in service",
    )
    prompt_version: int | None = Field(
        default=None, ge=1, description="1, 2, ...: which of the project's distinct prompts `spec` has"
    )
    by: str = Field(default="", description="Who took it out of service; empty where nobody did")
    reason: str = Field(default="", description="Why, in that person's words")


class ModelRegisteredV1(Event):
    """A model got its version: new weights, or a new prompt on the weights of an earlier version."""

    TOPIC: ClassVar[str] = "registry.model.registered.v1"

    project: ProjectName
    model: ModelRef
    run_id: str
    dataset: DatasetRef
    project_revision: Sha256
    prompt_version: int | None = Field(
        default=None, ge=1, description="Which of the project's prompts it is served under"
    )
    weights_of: int | None = Field(
        default=None,
        ge=1,
        description="The version whose weights these are, under another prompt; null: trained for it",
    )
    spec: ProjectSpec | None = Field(
        default=None, description="Of a version with another's weights: what project_revision says"
    )


class ModelPromotedV1(Event):
    """Model-ready: a subscriber needs nothing but this event and the artifact store.

    Version 0 is the base, untouched, to which somebody rolled back: it has no files of its own, and dataset, run and
    metrics are those of the version that it was last measured beside.
    """

    TOPIC: ClassVar[str] = "registry.model.promoted.v1"

    project: ProjectName
    model: ModelRef
    stage: Literal["production"] = "production"
    kind: Literal["lora", "full"]
    base: BaseRef
    files: Files
    dataset: DatasetRef
    project_revision: Sha256
    run_id: str
    evaluation: ArtifactRef | None = Field(description="Per-example results (Parquet)")
    metrics: Metrics
    previous: ModelRef | None = Field(description="The version that was in production before")
    by: str = Field(description="gate, or who did it by hand")
    cause: Literal["gate", "promote", "rollback"]
    detail: str = ""
    spec: ProjectSpec | None = Field(
        default=None, description="What project_revision says: whoever never saw that definition needs no other event"
    )
    promotion: int | None = Field(
        default=None, description="1, 2, ...: which promotion of the model it is, rollbacks counted too"
    )
    prompt_version: int | None = Field(
        default=None, ge=1, description="Which of the project's prompts it is served under: that of `spec`"
    )
    weights_of: int | None = Field(
        default=None, ge=1, description="The version whose weights these are, under another prompt; null: its own"
    )


class ModelRejectedV1(Event):
    """A candidate did not pass the gate, or a person rejected it."""

    TOPIC: ClassVar[str] = "registry.model.rejected.v1"

    project: ProjectName
    model: ModelRef
    run_id: str
    failed: tuple[str, ...] = Field(description="The rules that did not hold, with the figures; none for a person's no")
    metrics: Metrics
    by: str = Field(default="gate", description="gate, or who did it by hand")
    detail: str = Field(default="", description="Why, in words")
    evaluation_id: str | None = Field(default=None, description="The evaluation that was judged")


class EvaluationRequestedV1(Event):
    """A candidate must be measured again, since another champion serves or a person asked; holds all that an evaluator needs."""

    TOPIC: ClassVar[str] = "registry.evaluation.requested.v1"

    project: ProjectName
    model: ModelRef
    evaluation_id: str = Field(max_length=200, description="The id that the evaluation shall have")
    candidate: ModelTrainedV1 = Field(description="The event that told of the candidate")
    champion: ModelPromotedV1 | None = Field(description="The promotion to measure against; null: the base")
    reason: str = ""
