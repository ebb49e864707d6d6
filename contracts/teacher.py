"""`serve.teacher` of a project file: somebody else's model, behind any OpenAI-compatible endpoint. Asks nobody."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from contracts.endpoint import Endpoint
from contracts.sections import Duration, Section

Optional = Literal[
    "temperature",
    "top_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "parallel_tool_calls",
    "stream_options",
]
_NOTHING = timedelta(0)


class TeacherTimeout(Section):
    """How long the teacher may be silent."""

    connect: Duration = Field(default=timedelta(seconds=5), gt=_NOTHING)
    first_token: Duration = Field(default=timedelta(seconds=60), gt=_NOTHING)
    next_token: Duration = Field(default=timedelta(seconds=30), gt=_NOTHING, description="Between two tokens")


class Breaker(Section):
    """When a teacher that fails is left alone for a while."""

    failures: int = Field(default=5, ge=1, le=1000, description="So many in a row, and it is not asked any more")
    pause: Duration = Field(default=timedelta(seconds=30), gt=_NOTHING, description="After it one request tries again")


class Teacher(Endpoint):
    """The endpoint that answers until a version of the project's own is promoted, and a share of the requests always."""

    share: float = Field(
        default=0.0, ge=0, le=1, description="Of the requests, that it answers when a version of one's own is promoted"
    )
    timeout: TeacherTimeout = TeacherTimeout()
    breaker: Breaker = Breaker()
    length_parameter: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="How the endpoint calls the most tokens of an answer"
    )
    leave_out: tuple[Optional, ...] = Field(
        default=(), description="Parameters that the endpoint refuses, such as temperature: not sent to it"
    )
