"""Answers of /v1/responses: a Response object, and the events by which a stream builds one up.

Both are made of the same items: the body of a whole answer is what its stream would end with.
Source: https://platform.openai.com/docs/api-reference/responses/object and .../responses-streaming.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from services.serving.domain.answers import AnswerStream, Choice, Form, Head, Usage, sse
from services.serving.domain.errors import ApiFault, error_body
from services.serving.domain.responses_output import Event, Output
from services.serving.domain.token_scores import Score, chat_logprobs
from services.serving.domain.tool_calls import Content

_PREFIX = "resp_"
Status = Literal["in_progress", "completed", "incomplete", "failed"]
_INCOMPLETE: Mapping[str, Any] = {"reason": "max_output_tokens"}


def _response(
    head: Head,
    status: Status,
    output: Sequence[Mapping[str, Any]],
    usage: Usage | None = None,
    error: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A Response. Temperature and top_p are those that the request did not set, too."""
    shown = {**head.shown}
    default = {"temperature": head.target.serve.temperature, "top_p": 1.0}
    shown |= {name: value for name, value in default.items() if shown.get(name) is None}
    return {
        "id": head.id,
        "object": "response",
        "created_at": head.created,
        "status": status,
        "background": False,
        "error": error,
        "incomplete_details": dict(_INCOMPLETE) if status == "incomplete" else None,
        "model": head.model,
        "output": list(output),
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "truncation": "disabled",
        "usage": None if usage is None else _usage(usage),
        **shown,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    """Tokens; what the engine finds in its prefix cache it does not tell, and nothing here reasons."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total,
    }


class _Events:
    """The events of one response, numbered from 0."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._parser = head.parser()
        self._output = Output(head.id.removeprefix(_PREFIX))
        self._count = 0
        self._status: Status = "in_progress"

    def opening(self, index: int) -> bytes:
        """A response without output, twice: it was made, and it is at work."""
        begun = _response(self._head, "in_progress", ())
        return self._told([("response.created", {"response": begun}), ("response.in_progress", {"response": begun})])

    def piece(self, index: int, text: str, scores: Sequence[Score] = ()) -> bytes:
        """What the next part of the text adds. Of calls no logprobs are told."""
        if self._parser:
            return self._told([event for delta in self._parser.feed(text) for event in self._output.take(delta)])
        return self._told(self._output.take(Content(text), self._logprobs(scores)))

    def closing(self, index: int, finish_reason: str, scores: Sequence[Score] = ()) -> bytes:
        """The ends of the items."""
        events: list[Event] = []
        if self._parser:
            events += [event for delta in self._parser.finish() for event in self._output.take(delta)]
        cut = finish_reason == "length"
        self._status = "incomplete" if cut else "completed"
        events += self._output.close(
            "incomplete" if cut else "completed", [] if self._parser else self._logprobs(scores)
        )
        return self._told(events)

    def ending(self, usage: Usage) -> bytes:
        """The whole response."""
        return self._told([(f"response.{self._status}", {"response": self.response(usage)})])

    def failure(self, fault: ApiFault) -> bytes:
        """What there is of the items, the error, which OpenAI's clients raise, and the response that failed."""
        events = self._output.close("incomplete") if self._output.items else []
        said = error_body(fault)["error"]
        flat = {"code": fault.code, "message": fault.message, "param": fault.param}
        error = {"code": "server_error", "message": fault.message}  # OpenAI has a closed list of codes
        failed = _response(self._head, "failed", self._output.items, error=error)
        return self._told([*events, ("error", {**flat, "error": said}), ("response.failed", {"response": failed})])

    def response(self, usage: Usage) -> dict[str, Any]:
        """The response as it is now."""
        return _response(self._head, self._status, self._output.items, usage)

    def _logprobs(self, scores: Sequence[Score]) -> list[dict[str, Any]]:
        count = self._head.logprobs
        return [] if count is None else chat_logprobs(scores, count)["content"]

    def _told(self, events: Sequence[Event]) -> bytes:
        told: list[bytes] = []
        for kind, body in events:
            told.append(sse({"type": kind, "sequence_number": self._count, **body}, kind))
            self._count += 1
        return b"".join(told)


def _whole(choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
    (choice,) = choices  # a request to /v1/responses has one
    events = _Events(choice.head)
    events.piece(0, choice.text, choice.scores)
    events.closing(0, choice.finish_reason)
    return events.response(usage)


def _stream(heads: Sequence[Head]) -> AnswerStream:
    (head,) = heads
    return _Events(head)


RESPONSES = Form(_PREFIX, _whole, _stream)
