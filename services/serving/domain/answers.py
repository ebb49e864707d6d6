"""Answers in OpenAI's shapes: whole bodies and the chunks of a stream. Knows neither Triton nor HTTP.

Source: https://platform.openai.com/docs/api-reference/chat/object, .../chat/streaming and .../completions/object.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from services.lm.tool_format import ToolFormat
from services.serving.domain.requests import Endpoint
from services.serving.domain.routing import Target
from services.serving.domain.token_scores import Score, chat_logprobs, text_logprobs
from services.serving.domain.tool_calls import Arguments, CallBegun, Content, Delta, ToolCallParser

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request and its answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Of two answers together."""
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)

    def body(self) -> dict[str, int]:
        """OpenAI's `usage` object."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


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

    def body(self, chunk: bool) -> dict[str, Any]:
        """The fields around `choices`."""
        kind = "text_completion" if self.endpoint == "completions" else "chat.completion" + ".chunk" * chunk
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.target.name,
            "system_fingerprint": self.target.fingerprint,
        }


def whole(head: Head, text: str, finish_reason: str, usage: Usage, scores: Sequence[Score] = ()) -> dict[str, Any]:
    """The body of an answer that is not streamed, with one choice."""
    calls: list[dict[str, Any]] = []
    if head.tools is not None:
        text, calls = _read(head.tools.parser(f"{head.id} {head.index}"), text)
    message = {"role": "assistant", "content": text or None if calls else text, "refusal": None}
    said = (
        {"message": message | ({"tool_calls": calls} if calls else {})}
        if head.endpoint == "chat.completions"
        else {"text": text}
    )
    told = {"logprobs": _logprobs(head, scores), "finish_reason": _reason(finish_reason, bool(calls))}
    choice = {"index": head.index, **said, **told}
    return {**head.body(chunk=False), "choices": [choice], "usage": usage.body()}


def gathered(bodies: Sequence[dict[str, Any]], usage: Usage) -> dict[str, Any]:
    """Bodies of one choice each as the body of one request."""
    return {**bodies[0], "choices": [choice for body in bodies for choice in body["choices"]], "usage": usage.body()}


def _logprobs(head: Head, scores: Sequence[Score], offset: int = 0) -> dict[str, Any] | None:
    if head.logprobs is None:
        return None
    if head.endpoint == "completions":
        return text_logprobs(scores, head.logprobs, offset)
    return chat_logprobs(scores, head.logprobs)


def _read(parser: ToolCallParser, text: str) -> tuple[str, list[dict[str, Any]]]:
    content: list[str] = []
    calls: list[dict[str, Any]] = []
    for delta in [*parser.feed(text), *parser.finish()]:
        match delta:
            case Content(more):
                content.append(more)
            case CallBegun(_, id, name):
                calls.append({"id": id, "type": "function", "function": {"name": name, "arguments": ""}})
            case Arguments(index, more):
                calls[index]["function"]["arguments"] += more
    return "".join(content), calls


def _reason(finish_reason: str, called: bool) -> str:
    """An answer that ended of itself with calls ended for them; one that was cut was cut."""
    return "tool_calls" if called and finish_reason == "stop" else finish_reason


def opening(head: Head) -> bytes:
    """The first chunk of a chat: the role. Completions begin with their text."""
    return _chunk(head, {"role": "assistant", "content": ""}) if head.endpoint == "chat.completions" else b""


class Chunks:
    """The chunks of one stream, after its opening."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._parser = head.tools.parser(f"{head.id} {head.index}") if head.tools is not None else None
        self._shown = 0

    def piece(self, text: str, scores: Sequence[Score] = ()) -> bytes:
        """What the next part of the text adds; nothing while it may become a call. Of calls no logprobs are told."""
        if self._parser:
            return self._deltas(self._parser.feed(text))
        self._shown += len(text)
        return _chunk(self._head, {"content": text}, text, logprobs=self._told(scores, len(text)))

    def closing(self, finish_reason: str, scores: Sequence[Score] = ()) -> bytes:
        """The last chunks of a choice: what was held, and why it ended."""
        rest, called = b"", False
        if self._parser:
            rest, called = self._deltas(self._parser.finish()), self._parser.calls > 0
        told = self._told(scores, 0) if scores and not self._parser else None
        return rest + _chunk(self._head, {}, "", _reason(finish_reason, called), told)

    def _told(self, scores: Sequence[Score], length: int) -> dict[str, Any] | None:
        return _logprobs(self._head, scores, self._shown - length)

    def _deltas(self, deltas: list[Delta]) -> bytes:
        return b"".join(_chunk(self._head, _delta_body(delta)) for delta in deltas)


def ending(head: Head, usage: Usage) -> bytes:
    """The end of a stream: the usage where it was asked for, and [DONE]."""
    counted = {**head.body(chunk=True), "choices": [], "usage": usage.body()}
    return (sse(counted) if head.include_usage else b"") + DONE


def _delta_body(delta: Delta) -> dict[str, Any]:
    match delta:
        case Content(text):
            return {"content": text}
        case CallBegun(index, id, name):
            function = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}
        case Arguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def _chunk(
    head: Head,
    delta: dict[str, Any],
    text: str = "",
    finish_reason: str | None = None,
    logprobs: dict[str, Any] | None = None,
) -> bytes:
    said = {"delta": delta} if head.endpoint == "chat.completions" else {"text": text}
    choice = {"index": head.index, **said, "logprobs": logprobs, "finish_reason": finish_reason}
    body = {**head.body(chunk=True), "choices": [choice]}
    return sse(body | {"usage": None} if head.include_usage else body)


def sse(body: dict[str, Any]) -> bytes:
    """A server-sent event with `body` as its data (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def model_card(name: str, target: Target) -> dict[str, Any]:
    """OpenAI's model object, with what answers behind the name."""
    created = int(target.deployed_at.timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": target.model.name, "root": target.name}
