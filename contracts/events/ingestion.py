"""What ingestion produces."""

from typing import Any, ClassVar

from pydantic import Field, JsonValue

from contracts.envelope import Event
from contracts.records import Record, RecordFormat
from contracts.types import ProjectName, Sha256


def _absent(value: Any) -> bool:
    return value is None


class RecordAcceptedV1(Event):
    """A valid record of a known project, every text as it was sent.

    A record that came in another shape than the format's own stands in `sent` as it came, beside what it became.
    """

    TOPIC: ClassVar[str] = "ingestion.record.accepted.v1"

    project: ProjectName
    record_id: str
    revision: int = Field(ge=1, description="1, 2, ... by project and record_id")
    subject: str | None = None
    tags: dict[str, str] = Field(default_factory=dict[str, str])
    format: RecordFormat
    record: Record
    digest: Sha256 = Field(description="SHA-256 of the record's canonical JSON")
    shape: str | None = Field(default=None, exclude_if=_absent, description="What it came as, where it was converted")
    sent: dict[str, JsonValue] | None = Field(
        default=None, exclude_if=_absent, description="The record as it came, where it was converted"
    )

    @property
    def key(self) -> str:
        """A record's revisions keep their order."""
        return f"{self.project}/{self.record_id}"


class RecordRefusedV1(Event):
    """A record that was understood as an event but not taken."""

    TOPIC: ClassVar[str] = "ingestion.record.refused.v1"

    project: str
    record_id: str
    reason: str = Field(description="unknown_project, unknown_format, invalid_field, not_an_object, empty, ...")
    detail: str = Field(description="Where it is wrong and what would be right")
    source: str = Field(description="ce_source of the submitted event")
    source_id: str = Field(description="ce_id of the submitted event")

    @property
    def key(self) -> str:
        """As the accepted event's."""
        return f"{self.project}/{self.record_id}"
