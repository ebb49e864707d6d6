"""What prep produces."""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from contracts.envelope import Event
from contracts.project import ProjectSpec
from contracts.types import ArtifactRef, DatasetRef, ProjectName, Sha256

Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,49}$")]
"""A word that people find a dataset by."""


class DatasetFrozenV1(Event):
    """A dataset version that never changes again."""

    TOPIC: ClassVar[str] = "prep.dataset.frozen.v1"

    project: ProjectName
    project_revision: Sha256
    dataset: DatasetRef
    counts: dict[str, int] = Field(description="Rows of 'train', 'validation' and 'held_out'")
    drops: dict[str, int] = Field(description="Dropped records by reason")
    kinds: dict[str, dict[str, int]] | None = Field(
        default=None, description="Rows by split and by what they are good for: the kinds of contracts/kinds.py"
    )
    cause: str = Field(description="policy or on_demand")
    profile: ArtifactRef = Field(description="JSON")
    report: ArtifactRef = Field(description="The profile as one self-contained HTML page")
    spec: ProjectSpec | None = Field(
        default=None, description="What project_revision says: whoever never saw that definition needs no other event"
    )
    segments: tuple[Sha256, ...] | None = Field(
        default=None, description="Digests of prep's segments that held the records; the others were not in one yet"
    )


class DatasetAnnotatedV1(Event):
    """What people say of a dataset; the annotation with the greatest `sequence` is in force, whole."""

    TOPIC: ClassVar[str] = "prep.dataset.annotated.v1"

    project: ProjectName
    number: int = Field(ge=1, description="Of the dataset")
    sequence: int = Field(ge=1, description="1, 2, ... of this dataset's annotations")
    tags: tuple[Tag, ...] = Field(max_length=50, description="Sorted, each once")
    note: str = Field(max_length=10_000)
    by: str = Field(min_length=1, max_length=200, description="Who said so")
