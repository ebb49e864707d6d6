"""What serving produces."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from contracts.envelope import Event
from contracts.types import JsonObject, ModelRef, ProjectName, Value


class DeploymentChangedV1(Event):
    """A model version began or ceased to answer, or could not."""

    TOPIC: ClassVar[str] = "serving.deployment.changed.v1"

    project: ProjectName
    model: ModelRef
    status: Literal["deployed", "failed", "removed"]
    detail: str = ""
    seconds: float = Field(default=0.0, description="From the promotion's arrival to the change")
    promotion: int | None = Field(
        default=None, description="The promotion that it is about, as registry.model.promoted counts"
    )


class TeacherAnswer(Value):
    """That the project's teacher answered, `serve.teacher` of its file, and what that cost."""

    model: str = Field(description="The model's name at the teacher's")
    host: str
    cost: float | None = Field(default=None, ge=0, description="Money; null: the project names no price")
    currency: str | None = None
    estimated: bool = Field(
        default=False, description="The teacher did not say its tokens: a quarter of the characters was taken"
    )
    attempts: int = Field(default=1, ge=0, description="Times that it was asked")


class InferenceCompletedV1(Event):
    """A request to the gateway and its answer, errors and cancellations too."""

    TOPIC: ClassVar[str] = "serving.inference.completed.v1"

    project: ProjectName
    request_id: str = Field(max_length=100)
    model: ModelRef
    endpoint: Literal["chat.completions", "completions"]
    messages: tuple[JsonObject, ...] | None = None
    prompt: str | None = None
    prompt_version: int | None = Field(
        default=None,
        ge=1,
        description="Which of the project's prompts stood before the messages; null: none is counted",
    )
    prompt_variables: dict[str, str] | None = Field(default=None, description="What the client gave for its variables")
    parameters: JsonObject = Field(default_factory=dict[str, Any])
    stream: bool = False
    user: str | None = None
    metadata: dict[str, str] | None = Field(default=None, description="What the client said of the request")
    stored: bool = Field(
        default=True, description="False where the client forbade to keep it: no text, parameter or name of it is here"
    )
    output: str = ""
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    time_to_first_token: float | None = Field(default=None, description="Seconds")
    seconds: float = 0.0
    status: Literal["ok", "error", "cancelled"] = "ok"
    error: str | None = None
    teacher: TeacherAnswer | None = Field(
        default=None, description="Who answered in place of a version; `model` is the base then, version 0"
    )

    @property
    def key(self) -> str:
        """A request's events keep their order."""
        return self.request_id
