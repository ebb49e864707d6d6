"""Answers of /v1/chat/completions and /v1/completions: objects with `choices`, whole and as chunks.

Source: https://platform.openai.com/docs/api-reference/chat/object, .../chat/streaming and .../completions/object.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from services.serving.domain.answers import AnswerStream, Choice, Form, Head, Usage, sse
from services.serving.domain.errors import ApiFault, error_body
from services.serving.domain.token_scores import Score, chat_logprobs, text_logprobs
from services.serving.domain.tool_calls import Arguments, CallBegun, Content, Delta, ToolCallParser

DONE = b"data: [DONE]\n\n"
_Calls = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Shape:
    """In what the choices of the two endpoints differ."""

    object: str
    chunk: str
    message: Callable[[str, _Calls], dict[str, Any]]
    """A whole choice's text and calls."""
    delta: Callable[[str], dict[str, Any]]
    """A chunk's text; of "" what a chunk without any has."""
    logprobs: Callable[[Sequence[Score], int, int], dict[str, Any]]
    """Of the scores, so many likeliest, behind so many characters."""
    opening: Mapping[str, Any] | None = None
    """The first chunk's delta."""


def _message(text: str, calls: _Calls) -> dict[str, Any]:
    said = {"role": "assistant", "content": text or None if calls else text, "refusal": None}
    return {"message": said | ({"tool_calls": list(calls)} if calls else {})}


_CHAT = _Shape(
    object="chat.completion",
    chunk="chat.completion.chunk",
    message=_message,
    delta=lambda text: {"delta": {"content": text} if text else {}},
    logprobs=lambda scores, count, _: chat_logprobs(scores, count),
    opening={"role": "assistant", "content": ""},
)
_TEXT = _Shape(
    object="text_completion",
    chunk="text_completion",
    message=lambda text, _: {"text": text},
    delta=lambda text: {"text": text},
    logprobs=text_logprobs,
)


def _whole(shape: _Shape, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
    head = choices[0].head
    return {
        **_around(head, shape.object),
        "choices": [_choice(shape, each) for each in choices],
        "usage": _usage(usage),
    }


def _choice(shape: _Shape, choice: Choice) -> dict[str, Any]:
    parser, calls, text = choice.head.parser(), [], choice.text
    if parser is not None:
        text, calls = _read(parser, text)
    count = choice.head.logprobs
    return {
        "index": choice.head.index,
        **shape.message(text, calls),
        "logprobs": None if count is None else shape.logprobs(choice.scores, count, 0),
        "finish_reason": _reason(choice.finish_reason, bool(calls)),
    }


def _around(head: Head, kind: str) -> dict[str, Any]:
    """The fields around `choices`."""
    return {
        "id": head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
        "system_fingerprint": head.target.fingerprint,
    }


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total,
    }


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


class _Told:
    """How far a choice is told."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.parser = head.parser()
        self.characters = 0


class _Chunks:
    """The chunks of one request, its choices side by side."""

    def __init__(self, shape: _Shape, heads: Sequence[Head]) -> None:
        self._shape = shape
        self._choices = [_Told(head) for head in heads]

    def opening(self, index: int) -> bytes:
        """Of a chat the role; completions begin with their text."""
        opening = self._shape.opening
        return b"" if opening is None else self._chunk(index, {"delta": dict(opening)})

    def piece(self, index: int, text: str, scores: Sequence[Score] = ()) -> bytes:
        """What the next part of the text adds. Of calls no logprobs are told."""
        told = self._choices[index]
        if told.parser:
            return self._deltas(index, told.parser.feed(text))
        logprobs = self._logprobs(told, scores)
        told.characters += len(text)
        return self._chunk(index, self._shape.delta(text), logprobs=logprobs)

    def closing(self, index: int, finish_reason: str, scores: Sequence[Score] = ()) -> bytes:
        """The last chunks of a choice."""
        told, rest, called = self._choices[index], b"", False
        if told.parser:
            rest, called = self._deltas(index, told.parser.finish()), told.parser.calls > 0
        logprobs = self._logprobs(told, scores) if scores and not told.parser else None
        return rest + self._chunk(index, self._shape.delta(""), _reason(finish_reason, called), logprobs)

    def ending(self, usage: Usage) -> bytes:
        """The usage where it was asked for, and [DONE]."""
        head = self._choices[0].head
        counted = {**_around(head, self._shape.chunk), "choices": [], "usage": _usage(usage)}
        return (sse(counted) if head.include_usage else b"") + DONE

    def failure(self, fault: ApiFault) -> bytes:
        """OpenAI's clients raise it, and no [DONE] follows."""
        return sse(error_body(fault))

    def _logprobs(self, told: _Told, scores: Sequence[Score]) -> dict[str, Any] | None:
        count = told.head.logprobs
        return None if count is None else self._shape.logprobs(scores, count, told.characters)

    def _deltas(self, index: int, deltas: list[Delta]) -> bytes:
        return b"".join(self._chunk(index, {"delta": _delta(delta)}) for delta in deltas)

    def _chunk(
        self,
        index: int,
        said: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        head = self._choices[index].head
        choice = {"index": head.index, **said, "logprobs": logprobs, "finish_reason": finish_reason}
        body = {**_around(head, self._shape.chunk), "choices": [choice]}
        return sse(body | {"usage": None} if head.include_usage else body)


def _delta(delta: Delta) -> dict[str, Any]:
    match delta:
        case Content(text):
            return {"content": text}
        case CallBegun(index, id, name):
            function = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}
        case Arguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def _chunks(shape: _Shape, heads: Sequence[Head]) -> AnswerStream:
    return _Chunks(shape, heads)


CHAT = Form("chatcmpl-", partial(_whole, _CHAT), partial(_chunks, _CHAT))
COMPLETIONS = Form("cmpl-", partial(_whole, _TEXT), partial(_chunks, _TEXT))
