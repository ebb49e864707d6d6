"""Responses and their events have the shapes and the order of the openai client's own types, however an answer came."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent

from services.serving.domain.answers import Choice, Head, OfferedTools, Usage
from services.serving.domain.errors import Unavailable
from services.serving.domain.forms import FORMS
from services.serving.domain.requests import parse_chat
from services.serving.domain.responses_request import parse_responses
from tests.unit.serving.builders import target

USAGE = Usage(5, 2)
FORM = FORMS["responses"]
TYPES: dict[str, Any] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(ResponseStreamEvent)[0])
}
LETTERS = {
    "response.created": "C",
    "response.in_progress": "P",
    "response.output_item.added": "[",
    "response.content_part.added": "(",
    "response.output_text.delta": "t",
    "response.output_text.done": "T",
    "response.content_part.done": ")",
    "response.function_call_arguments.delta": "a",
    "response.function_call_arguments.done": "A",
    "response.output_item.done": "]",
    "response.completed": "E",
    "response.incomplete": "E",
    "error": "X",
    "response.failed": "F",
}
ORDER = re.compile(r"CP(\[(\(t*T\)|a*A)\])+E")
CALL = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
FRAGMENTS = st.sampled_from(
    [
        "a",
        "é 🌊",
        " ",
        "\n",
        "<tool_call>",
        '{"name": "f", "arguments": {"x": 1}}',
        "</tool_call>",
        "{",
        CALL,
        CALL[:40],
    ]
)
SCORE = {"5": {"logprob": -0.5, "rank": 1, "decoded_token": "é"}}


def head(extra: str = "", tools: bool = False, logprobs: int | None = None) -> Head:
    shown = parse_responses(f'{{"model":"shop","input":"hi"{extra}}}'.encode()).shown
    offered = OfferedTools("hermes", frozenset({"f"})) if tools else None
    return Head("resp_1", "responses", 1769817600, target(), tools=offered, logprobs=logprobs, shown=shown)


def whole(head: Head, text: str, reason: str = "stop") -> dict[str, Any]:
    return FORM.whole([Choice(head, text, reason)], USAGE)


def events(stream: bytes) -> list[dict[str, Any]]:
    """The events, each as the openai client's own class has it."""
    found: list[dict[str, Any]] = []
    for number, event in enumerate(stream.decode().split("\n\n")[:-1]):
        name, data = event.split("\n")
        body = json.loads(data.removeprefix("data: "))
        TYPES[body["type"]].model_validate(body, strict=True)
        assert (name, body["sequence_number"]) == (f"event: {body['type']}", number)
        found.append(body)
    return found


def streamed(head: Head, pieces: list[str], reason: str = "stop") -> list[dict[str, Any]]:
    stream = FORM.stream([head])
    text = stream.opening(0) + b"".join(stream.piece(0, piece) for piece in pieces)
    return events(text + stream.closing(0, reason) + stream.ending(USAGE))


def order(told: list[dict[str, Any]]) -> str:
    return "".join(LETTERS[event["type"]] for event in told)


def test_a_whole_response() -> None:
    body = Response.model_validate(whole(head(), "é"), strict=True)
    assert (body.output_text, body.status, body.incomplete_details, body.model) == ("é", "completed", None, "shop@1")
    assert body.usage
    assert (body.usage.input_tokens, body.usage.output_tokens, body.usage.total_tokens) == (5, 2, 7)
    assert (body.temperature, body.top_p, body.tools, body.tool_choice) == (target().serve.temperature, 1.0, [], "auto")


def test_a_response_repeats_what_was_asked() -> None:
    asked = {
        "instructions": "Be kind.",
        "max_output_tokens": 9,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": False}
        ],
        "top_logprobs": 2,
        "top_p": 0.25,
        "user": "u",
    }
    body = whole(head("," + json.dumps(asked)[1:-1]), "{}")
    assert {name: body[name] for name in asked} == asked
    Response.model_validate(body, strict=True)


def test_calls_are_items_between_the_texts() -> None:
    body = Response.model_validate(whole(head(tools=True), f"Let me see.{CALL}{CALL} Done."), strict=True)
    assert [item.type for item in body.output] == ["message", "function_call", "function_call", "message"]
    calls = [item for item in body.output if item.type == "function_call"]
    assert {(c.name, c.arguments, c.status) for c in calls} == {("f", '{"x": 1}', "completed")}
    assert len({c.call_id for c in calls}) == len({c.id for c in calls}) == 2
    assert body.output_text == "Let me see. Done."


@pytest.mark.parametrize("text", ["half", CALL[:48]])
def test_an_answer_that_was_cut_is_incomplete(text: str) -> None:
    body = Response.model_validate(whole(head(tools=True), f"a{CALL}{text}", "length"), strict=True)
    assert (body.status, body.incomplete_details and body.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert [getattr(item, "status", None) for item in body.output] == ["completed", "completed", "incomplete"]
    last = streamed(head(tools=True), [text], "length")[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")


def test_the_events_of_a_text() -> None:
    told = streamed(head(), ["a", "b"])
    assert order(told) == "CP[(ttT)]E"
    assert [event.get("delta") for event in told][4:6] == ["a", "b"]
    assert (told[0]["response"]["status"], told[0]["response"]["output"]) == ("in_progress", [])
    assert told[-1]["response"] == whole(head(), "ab")


def test_an_answer_without_a_word_is_an_empty_text() -> None:
    assert order(streamed(head(), [])) == "CP[(T)]E"
    assert whole(head(tools=True), "")["output"][0]["content"][0]["text"] == ""


@given(st.lists(FRAGMENTS, max_size=6).map("".join), st.lists(st.integers(0, 120), max_size=8), st.booleans())
def test_a_stream_ends_with_what_a_whole_answer_is(text: str, cuts: list[int], tools: bool) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places) if a < b]
    told = streamed(head(tools=tools), pieces)
    assert ORDER.fullmatch(order(told))
    response = whole(head(tools=tools), text)
    assert told[-1]["response"] == response
    assert [event["item"] for event in told if event["type"] == "response.output_item.done"] == response["output"]
    for index, item in enumerate(response["output"]):
        own = [event for event in told if event.get("output_index") == index]
        deltas = "".join(event["delta"] for event in own if event["type"].endswith(".delta"))
        assert deltas == (item["content"][0]["text"] if item["type"] == "message" else item["arguments"])
        assert {event["item_id"] for event in own if "item_id" in event} == {item["id"]}


@given(st.lists(FRAGMENTS, max_size=6).map("".join))
def test_output_that_is_fed_back_is_the_turn_that_chat_makes_of_it(text: str) -> None:
    output = whole(head(tools=True), text)["output"]
    chat = replace(head(tools=True), endpoint="chat.completions")
    message = FORMS["chat.completions"].whole([Choice(chat, text, "stop")], USAGE)["choices"][0]["message"]
    said = {key: value for key, value in message.items() if value is not None}

    def turns(parse: Any, **body: Any) -> Any:
        return parse(json.dumps({"model": "shop", **body}).encode()).messages

    assert turns(parse_responses, input=output) == turns(parse_chat, messages=[said])


def test_logprobs_are_told_with_their_text() -> None:
    at = head(logprobs=1)
    stream = FORM.stream([at])
    told = events(
        stream.opening(0) + stream.piece(0, "é", [SCORE]) + stream.closing(0, "stop", [SCORE]) + stream.ending(USAGE)
    )
    one = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    entry = one | {"top_logprobs": [one]}
    assert order(told) == "CP[(ttT)]E"
    assert [event["logprobs"] for event in told if event["type"] == "response.output_text.delta"] == [[entry], [entry]]
    assert told[-1]["response"]["output"][0]["content"][0]["logprobs"] == [entry, entry]
    body = FORM.whole([Choice(at, "é", "stop", [SCORE, SCORE])], USAGE)
    assert body["output"] == told[-1]["response"]["output"]


@pytest.mark.parametrize(("pieces", "expected"), [(["a"], "CP[(tT)]XF"), ([], "CPXF"), ([CALL[:48]], "CP[aA]XF")])
def test_a_fault_in_the_middle_is_an_error_and_a_failed_response(pieces: list[str], expected: str) -> None:
    stream = FORM.stream([head(tools=True)])
    text = stream.opening(0) + b"".join(stream.piece(0, piece) for piece in pieces)
    told = events(text + stream.failure(Unavailable("The model failed.", "model_failed")))
    assert order(told) == expected
    error, failed = told[-2:]
    assert (error["code"], error["error"]["code"], error["message"]) == (
        "model_failed",
        "model_failed",
        "The model failed.",
    )
    response = failed["response"]
    assert (response["status"], response["error"]) == (
        "failed",
        {"code": "server_error", "message": "The model failed."},
    )
    assert [item["status"] for item in response["output"]] == ["incomplete"] * len(pieces)
