"""What upstream systems produce."""

from typing import ClassVar

from pydantic import Field, JsonValue

from contracts.envelope import Event
from contracts.types import ProjectName, RecordId


class RecordSubmittedV1(Event):
    """A record is offered to a project. A later one with the same record_id is its new revision."""

    TOPIC: ClassVar[str] = "upstream.record.submitted.v1"

    project: ProjectName
    record_id: RecordId
    subject: str | None = Field(default=None, max_length=500, description="The person it is about or from")
    tags: dict[str, str] = Field(default_factory=dict[str, str], max_length=50)
    record: dict[str, JsonValue] = Field(description="In any shape of docs/data.md")
