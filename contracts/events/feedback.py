"""What feedback produces."""

from typing import ClassVar, Literal

from pydantic import Field

from contracts.envelope import Event
from contracts.records import Record
from contracts.types import ModelRef, ProjectName


class SignalRecordedV1(Event):
    """What a person said of an answer, attributed to its request."""

    TOPIC: ClassVar[str] = "feedback.signal.recorded.v1"

    project: ProjectName
    signal_id: str
    request_id: str
    model: ModelRef
    kind: Literal["thumb", "score", "correction", "comparison", "text"]
    thumb: Literal["up", "down"] | None = None
    score: float | None = Field(default=None, ge=0, le=1)
    correction: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    text: str | None = None
    user: str | None = None
    record_id: str | None = Field(default=None, description="Identity of the record that goes back to ingestion")
    record: Record | None = Field(default=None, description="A correction or comparison as a record")
    prompt_variables: dict[str, str] | None = Field(
        default=None, description="What the request gave for the prompt's variables; tags of the record"
    )

    @property
    def key(self) -> str:
        """A request's events keep their order."""
        return self.request_id


class SignalRefusedV1(Event):
    """Feedback on a request that never arrived."""

    TOPIC: ClassVar[str] = "feedback.signal.refused.v1"

    project: str
    signal_id: str
    request_id: str
    reason: str
    detail: str

    @property
    def key(self) -> str:
        """A request's events keep their order."""
        return self.request_id
