"""Answers and chunks have OpenAI's shapes: the openai client's own classes read them."""

import json
from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from services.serving.domain.answers import DONE, Head, Usage, closing, model_card, opening, piece, whole
from services.serving.domain.record import Progress, inference
from tests.unit.serving.builders import chat, target

USAGE = Usage(5, 2)


def head(endpoint: Any = "chat.completions", include_usage: bool = False) -> Head:
    return Head("chatcmpl-1", endpoint, 1769817600, target(), include_usage)


def events(stream: bytes) -> list[dict[str, Any]]:
    lines = stream.decode().removesuffix(DONE.decode()).split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def test_a_whole_chat() -> None:
    body = ChatCompletion.model_validate(whole(head(), "é", "stop", USAGE), strict=True)
    assert body.choices[0].message.content == "é"
    assert body.choices[0].finish_reason == "stop"
    assert body.usage
    assert body.usage.total_tokens == 7
    assert (body.model, body.system_fingerprint) == ("shop@1", "fp_0011223344556677")


def test_a_whole_completion() -> None:
    body = Completion.model_validate(whole(head("completions"), "x", "length", USAGE), strict=True)
    assert (body.object, body.choices[0].text, body.choices[0].finish_reason) == ("text_completion", "x", "length")


def test_a_stream_of_a_chat() -> None:
    stream = opening(head()) + piece(head(), "a\n") + piece(head(), "b") + closing(head(), "stop", USAGE)
    chunks = [ChatCompletionChunk.model_validate(e, strict=True) for e in events(stream)]
    assert [c.choices[0].delta.content for c in chunks] == ["", "a\n", "b", None]
    assert [c.choices[0].finish_reason for c in chunks] == [None, None, None, "stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "usage" not in events(stream)[0]
    assert stream.endswith(b"data: [DONE]\n\n")


def test_usage_is_the_last_chunk_where_asked_for() -> None:
    with_usage = head(include_usage=True)
    parsed = events(piece(with_usage, "a") + closing(with_usage, "stop", USAGE))
    assert [e["usage"] for e in parsed] == [None, None, USAGE.body()]
    assert parsed[-1]["choices"] == []


def test_a_stream_of_a_completion() -> None:
    at = head("completions")
    assert opening(at) == b""
    assert [e["choices"][0]["text"] for e in events(piece(at, "a") + closing(at, "stop", USAGE))] == ["a", ""]


def test_a_model_card() -> None:
    assert model_card("shop", target()) == {
        "id": "shop", "object": "model", "created": 1769817600, "owned_by": "shop", "root": "shop@1",
    }  # fmt: skip


def test_the_record_holds_what_was_sent_and_got() -> None:
    progress = Progress("out", "stop", USAGE, 0.1)
    event = inference("chatcmpl-1", chat(',"seed":1,"user":"u"'), target(), progress, "ok", None, 0.5)
    assert event.messages == ({"role": "user", "content": "hi"},)
    assert (event.output, event.prompt_tokens, event.user, event.parameters) == ("out", 5, "u", {"seed": 1})
    assert event.key == "chatcmpl-1"
