"""What the registry produces."""

from typing import ClassVar, Literal

from pydantic import Field

from contracts.envelope import Event
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


class ModelRegisteredV1(Event):
    """A trained model got its version."""

    TOPIC: ClassVar[str] = "registry.model.registered.v1"

    project: ProjectName
    model: ModelRef
    run_id: str
    dataset: DatasetRef
    project_revision: Sha256


class ModelPromotedV1(Event):
    """Model-ready: a subscriber needs nothing but this event and the artifact store."""

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


class ModelRejectedV1(Event):
    """A candidate did not pass the gate."""

    TOPIC: ClassVar[str] = "registry.model.rejected.v1"

    project: ProjectName
    model: ModelRef
    run_id: str
    failed: tuple[str, ...] = Field(description="The rules that did not hold, with the figures")
    metrics: Metrics
