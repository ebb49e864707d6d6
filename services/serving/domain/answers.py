"""What the forms of an answer share: what each is told of it, and what each gives. Knows no form, no Triton and no HTTP.

A form is how one of OpenAI's endpoints answers, whole or as a stream: choice_answers.py and responses_answer.py have them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from services.lm.tool_format import ToolFormat
from services.serving.domain.asked import Endpoint
from services.serving.domain.errors import ApiFault
from services.serving.domain.routing import Target
from services.serving.domain.token_scores import Score
from services.serving.domain.tool_calls import ToolCallParser


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request and its answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Of two answers together."""
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)

    @property
    def total(self) -> int:
        """Both."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """How the model writes calls, of which tools, and whether more than one."""

    format: ToolFormat
    names: frozenset[str]
    parallel: bool = True

    def parser(self, answer: str) -> ToolCallParser:
        """A new reader of one answer, whose name makes its calls' ids unlike any other's."""
        words = (hashlib.sha256(f"{answer} {n}".encode()).hexdigest() for n in count())
        return ToolCallParser(self.format, self.names, lambda: self._id(next(words)), self.parallel)

    def _id(self, word: str) -> str:
        """Mistral's templates take no other ids than nine letters and digits."""
        return word[:9] if self.format == "mistral" else f"call_{word[:24]}"


@dataclass(frozen=True, slots=True)
class Head:
    """What every part of one answer repeats."""

    id: str
    endpoint: Endpoint
    created: int
    target: Target
    include_usage: bool = False
    tools: OfferedTools | None = None
    """What the model may call: its answer is then read for calls."""
    index: int = 0
    """Of its choice among those of a request."""
    logprobs: int | None = None
    """How many likeliest tokens are told beside each; None tells of none."""
    shown: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the answer repeats of the request."""
    named: str = ""
    """The model's name in the answer, where it is not the target's."""

    @property
    def model(self) -> str:
        """What the answer calls its model."""
        return self.named or self.target.name

    def parser(self) -> ToolCallParser | None:
        """A new reader of the choice's calls; None where it may make none."""
        return self.tools.parser(f"{self.id} {self.index}") if self.tools is not None else None


@dataclass(frozen=True, slots=True)
class Choice:
    """One whole answer of the model's. `finish_reason` is the engine's: "stop" or "length"."""

    head: Head
    text: str
    finish_reason: str
    scores: Sequence[Score] = ()


class AnswerStream(Protocol):
    """The server-sent events of one request, in the order of these calls; each gives what is to be sent, maybe nothing."""

    def opening(self, index: int) -> bytes:
        """What a choice begins with, before anything of its text."""
        ...

    def piece(self, index: int, text: str, scores: Sequence[Score] = ()) -> bytes:
        """What the next part of a choice's text adds: nothing while it may become a call."""
        ...

    def closing(self, index: int, finish_reason: str, scores: Sequence[Score] = ()) -> bytes:
        """The last of a choice: what was held, and why it ended."""
        ...

    def ending(self, usage: Usage) -> bytes:
        """What follows the last choice."""
        ...

    def failure(self, fault: ApiFault) -> bytes:
        """The end of a stream that fails: its status is out already, so the error is an event."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """How an endpoint answers."""

    prefix: str
    """Of its answers' ids."""
    whole: Callable[[Sequence[Choice], Usage], dict[str, Any]]
    """The body of an answer with these choices."""
    stream: Callable[[Sequence[Head]], AnswerStream]
    """A new stream of the choices with these heads."""


def sse(body: Mapping[str, Any], event: str | None = None) -> bytes:
    """A server-sent event with `body` as its data (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    name = b"" if event is None else b"event: " + event.encode() + b"\n"
    return name + b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def model_card(name: str, target: Target, *, ready: bool) -> dict[str, Any]:
    """OpenAI's model object, with what answers behind the name and whether it can now."""
    created = int(target.deployed_at.timestamp())
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": target.model.name,
        "root": target.name,
        "ready": ready,
    }
