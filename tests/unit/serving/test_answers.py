"""Answers and chunks have OpenAI's shapes: the openai client's own classes read them."""

import json
from dataclasses import replace
from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from services.serving.domain.answers import AnswerStream, Choice, Head, OfferedTools, Usage, model_card
from services.serving.domain.choice_answers import DONE
from services.serving.domain.forms import FORMS
from services.serving.domain.record import Progress, inference
from tests.unit.serving.builders import chat, target

USAGE = Usage(5, 2)


def head(endpoint: Any = "chat.completions", include_usage: bool = False) -> Head:
    return Head("chatcmpl-1", endpoint, 1769817600, target(), include_usage)


def whole(head: Head, text: str, finish_reason: str, usage: Usage) -> dict[str, Any]:
    return FORMS[head.endpoint].whole([Choice(head, text, finish_reason)], usage)


def streamed(head: Head) -> AnswerStream:
    return FORMS[head.endpoint].stream([head])


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
    chunked = streamed(head())
    text = chunked.opening(0) + chunked.piece(0, "a\n") + chunked.piece(0, "b")
    stream = text + chunked.closing(0, "stop") + chunked.ending(USAGE)
    chunks = [ChatCompletionChunk.model_validate(e, strict=True) for e in events(stream)]
    assert [c.choices[0].delta.content for c in chunks] == ["", "a\n", "b", None]
    assert [c.choices[0].finish_reason for c in chunks] == [None, None, None, "stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "usage" not in events(stream)[0]
    assert stream.endswith(b"data: [DONE]\n\n")


def test_usage_is_the_last_chunk_where_asked_for() -> None:
    with_usage = streamed(head(include_usage=True))
    parsed = events(with_usage.piece(0, "a") + with_usage.closing(0, "stop") + with_usage.ending(USAGE))
    counted = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert [e["usage"] for e in parsed] == [None, None, counted]
    assert parsed[-1]["choices"] == []


def test_a_stream_of_a_completion() -> None:
    chunked = streamed(head("completions"))
    assert chunked.opening(0) == b""
    told = events(chunked.piece(0, "a") + chunked.closing(0, "stop") + chunked.ending(USAGE))
    assert [e["choices"][0]["text"] for e in told] == ["a", ""]


CALLS = (
    'Let me see.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    '<tool_call>{"name": "g", "arguments": {}}</tool_call>'
)


def with_tools(format: Any = "hermes", parallel: bool = True) -> Head:
    return replace(head(), tools=OfferedTools(format, frozenset({"f", "g"}), parallel))


def test_calls_of_a_whole_chat() -> None:
    body = ChatCompletion.model_validate(whole(with_tools(), CALLS, "stop", USAGE), strict=True)
    calls = [call for call in body.choices[0].message.tool_calls or [] if call.type == "function"]
    assert [(c.function.name, c.function.arguments) for c in calls] == [("f", '{"a": 1}'), ("g", "{}")]
    assert (body.choices[0].message.content, body.choices[0].finish_reason) == ("Let me see.", "tool_calls")
    assert len({c.id for c in calls}) == 2
    assert whole(with_tools(), CALLS[12:], "stop", USAGE)["choices"][0]["message"]["content"] is None


def test_an_answer_that_was_cut_in_a_call_was_cut() -> None:
    choice = whole(with_tools(), CALLS[:60], "length", USAGE)["choices"][0]
    assert (choice["finish_reason"], len(choice["message"]["tool_calls"])) == ("length", 1)
    assert whole(with_tools(), "no call", "stop", USAGE)["choices"][0]["finish_reason"] == "stop"


def test_without_parallel_calls_there_is_one() -> None:
    assert len(whole(with_tools(parallel=False), CALLS, "stop", USAGE)["choices"][0]["message"]["tool_calls"]) == 1


def test_mistrals_ids_are_nine_letters_and_digits() -> None:
    said = '[TOOL_CALLS] [{"name": "f", "arguments": {}}]'
    (call,) = whole(with_tools("mistral"), said, "stop", USAGE)["choices"][0]["message"]["tool_calls"]
    assert (len(call["id"]), call["id"].isalnum()) == (9, True)


def test_streamed_calls_begin_with_id_and_name() -> None:
    chunked = streamed(with_tools())
    stream = b"".join(chunked.piece(0, char) for char in CALLS) + chunked.closing(0, "stop") + chunked.ending(USAGE)
    chunks = [ChatCompletionChunk.model_validate(e, strict=True) for e in events(stream)]
    deltas = [call for c in chunks for call in c.choices[0].delta.tool_calls or []]
    first = [d for d in deltas if d.id]
    assert [(d.index, d.type, d.function and d.function.name) for d in first] == [
        (0, "function", "f"),
        (1, "function", "g"),
    ]
    joined = ["".join((d.function and d.function.arguments) or "" for d in deltas if d.index == i) for i in (0, 1)]
    assert joined == ['{"a": 1}', "{}"]
    assert len(deltas) > 6
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Let me see."


def test_a_model_card() -> None:
    assert model_card("shop", target(), ready=True) == {
        "id": "shop", "object": "model", "created": 1769817600, "owned_by": "shop", "root": "shop@1", "ready": True,
    }  # fmt: skip


def test_the_record_holds_what_was_sent_and_got() -> None:
    progress = Progress("out", "stop", USAGE, 0.1)
    event = inference("chatcmpl-1", chat(',"seed":1,"user":"u"'), target(), progress, "ok", None, 0.5)
    assert event.messages == ({"role": "user", "content": "hi"},)
    assert (event.output, event.prompt_tokens, event.user, event.parameters) == ("out", 5, "u", {"seed": 1})
    assert event.key == "chatcmpl-1"
    assert (event.metadata, event.stored) == (None, True)
    tagged = inference("i", chat(',"metadata":{"a":"b"}'), target(), progress, "ok", None, 0.5)
    assert tagged.metadata == {"a": "b"}


def test_what_shall_not_be_kept_is_counted_only() -> None:
    asked = chat(
        ',"store":false,"user":"u-secret","metadata":{"a":"m-secret"},"stop":"s-secret"',
        '[{"role":"user","content":"q-secret"}]',
    )
    progress = Progress("a-secret", "stop", USAGE, 0.1)
    event = inference("chatcmpl-1", asked, target(), progress, "error", "invalid_value: e-secret", 0.5)
    assert "secret" not in event.model_dump_json()
    assert (event.stored, event.prompt_tokens, event.completion_tokens, event.error) == (False, 5, 2, "invalid_value")
