"""What prep produces."""

from typing import ClassVar

from pydantic import Field

from contracts.envelope import Event
from contracts.project import ProjectSpec
from contracts.types import ArtifactRef, DatasetRef, ProjectName, Sha256


class DatasetFrozenV1(Event):
    """A dataset version that never changes again."""

    TOPIC: ClassVar[str] = "prep.dataset.frozen.v1"

    project: ProjectName
    project_revision: Sha256
    dataset: DatasetRef
    counts: dict[str, int] = Field(description="Rows of 'train', 'validation' and 'held_out'")
    drops: dict[str, int] = Field(description="Dropped records by reason")
    cause: str = Field(description="policy or on_demand")
    profile: ArtifactRef = Field(description="JSON")
    report: ArtifactRef = Field(description="The profile as one self-contained HTML page")
    spec: ProjectSpec | None = Field(
        default=None, description="What project_revision says: whoever never saw that definition needs no other event"
    )
    segments: tuple[Sha256, ...] | None = Field(
        default=None, description="Digests of prep's segments that held the records; the others were not in one yet"
    )
