"""Answers in OpenAI's shapes: whole bodies and the chunks of a stream. Knows neither Triton nor HTTP.

Source: https://platform.openai.com/docs/api-reference/chat/object, .../chat/streaming and .../completions/object.
"""

import json
from dataclasses import dataclass
from typing import Any

from services.serving.domain.requests import Endpoint
from services.serving.domain.routing import Target

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request and its answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def body(self) -> dict[str, int]:
        """OpenAI's `usage` object."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


@dataclass(frozen=True, slots=True)
class Head:
    """What every part of one answer repeats."""

    id: str
    endpoint: Endpoint
    created: int
    target: Target
    include_usage: bool = False

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


def whole(head: Head, text: str, finish_reason: str, usage: Usage) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    said = (
        {"message": {"role": "assistant", "content": text, "refusal": None}}
        if head.endpoint == "chat.completions"
        else {"text": text}
    )
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish_reason}
    return {**head.body(chunk=False), "choices": [choice], "usage": usage.body()}


def opening(head: Head) -> bytes:
    """The first chunk of a chat: the role. Completions begin with their text."""
    return _chunk(head, {"role": "assistant", "content": ""}) if head.endpoint == "chat.completions" else b""


def piece(head: Head, text: str) -> bytes:
    """A chunk with the next part of the text."""
    return _chunk(head, {"content": text}, text)


def closing(head: Head, finish_reason: str, usage: Usage) -> bytes:
    """The last chunks: why the answer ended, the usage where it was asked for, and [DONE]."""
    counted = {**head.body(chunk=True), "choices": [], "usage": usage.body()}
    return _chunk(head, {}, "", finish_reason) + (sse(counted) if head.include_usage else b"") + DONE


def _chunk(head: Head, delta: dict[str, Any], text: str = "", finish_reason: str | None = None) -> bytes:
    said = {"delta": delta} if head.endpoint == "chat.completions" else {"text": text}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish_reason}
    body = {**head.body(chunk=True), "choices": [choice]}
    return sse(body | {"usage": None} if head.include_usage else body)


def sse(body: dict[str, Any]) -> bytes:
    """A server-sent event with `body` as its data (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def model_card(name: str, target: Target) -> dict[str, Any]:
    """OpenAI's model object, with what answers behind the name."""
    created = int(target.deployed_at.timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": target.model.name, "root": target.name}
