"""What feedback produces."""

from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from contracts.envelope import Event
from contracts.records import Record
from contracts.types import ModelRef, ProjectName

TEACHER = "The model of the project's teacher that gave the answer; null: `model` gave it"


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
    by_policy: bool = Field(
        default=False,
        description="True: what is learnt of it, if anything, comes as feedback.example.released.v1; false: `record` is learnt",
    )
    question: str | None = Field(
        default=None,
        description="Digest of what was asked, in normal form; signals on one question are weighed together",
    )
    answer: str | None = Field(default=None, description="Digest of the answer that was given, in normal form")
    teacher: str | None = Field(default=None, description=TEACHER)

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


class _Example(Event):
    """A training example made of what a person said of an answer."""

    project: ProjectName
    example_id: str = Field(description="Identity of the record that it becomes")
    source: str = Field(description="Which of the project's `learn` it comes from: corrections, pairs and so on")
    request_id: str
    signal_id: str = Field(description="Empty of a teacher's answer, of which nobody need have said anything")
    model: ModelRef = Field(description="Whose answer it is about")
    user: str | None = Field(default=None, description="Digest of the user; null where nobody was named")
    record: Record
    tags: dict[str, str] = Field(default_factory=dict[str, str], description="The request's variables of the prompt")
    question: str = Field(description="Digest of what was asked, in normal form")
    good: str | None = Field(default=None, description="Digest of the answer that it calls good")
    bad: str | None = Field(default=None, description="Digest of the answer that it calls bad")
    said_at: AwareDatetime
    teacher: str | None = Field(default=None, description=TEACHER)

    @property
    def key(self) -> str:
        """An example's revisions keep their order."""
        return self.example_id


class ExampleReleasedV1(_Example):
    """The example is learnt: the project's policy lets it in, or a reviewer did."""

    TOPIC: ClassVar[str] = "feedback.example.released.v1"

    by: str = Field(default="", description="The reviewer; empty where the policy alone decided")


class ExampleHeldV1(_Example):
    """The example waits: for a reviewer, or for the time that the policy gives it."""

    TOPIC: ClassVar[str] = "feedback.example.held.v1"

    reason: str = Field(description="wait, agree, contested, alike, per_user or per_day")
    detail: str
    until: AwareDatetime | None = Field(default=None, description="When it is judged; null: a reviewer decides")


class ExampleRejectedV1(Event):
    """A reviewer says that the example is not to be learnt."""

    TOPIC: ClassVar[str] = "feedback.example.rejected.v1"

    project: ProjectName
    example_id: str
    by: str
    note: str = ""

    @property
    def key(self) -> str:
        """An example's revisions keep their order."""
        return self.example_id
