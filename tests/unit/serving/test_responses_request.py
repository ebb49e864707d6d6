"""A body to /v1/responses asks what the same chat asks; what needs an answer that was kept is refused by name."""

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from services.serving.domain.asked import Asked
from services.serving.domain.errors import Invalid
from services.serving.domain.record import Progress, inference
from services.serving.domain.requests import parse_chat
from services.serving.domain.responses_request import ResponsesBody, parse_responses
from services.serving.request_document import request_document
from tests.unit.serving.builders import target

USER = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}


def asked(input: Any = "hi", **body: Any) -> Asked:
    return parse_responses(json.dumps({"model": "shop", "input": input, **body}).encode())


def chat(messages: Any = USER, **body: Any) -> Asked:
    return parse_chat(json.dumps({"model": "shop", "messages": messages, **body}).encode())


def as_chat(response: Asked) -> Asked:
    return replace(response, endpoint="chat.completions", shown={})


@pytest.mark.parametrize(
    ("response", "of_chat"),
    [
        ({}, {}),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "h"}, "i"]}]}, {}),
        (
            {"instructions": "Be kind."},
            {"messages": [{"role": "system", "content": "Be kind."}, *USER]},
        ),
        ({"max_output_tokens": 7}, {"max_tokens": 7}),
        ({"max_output_tokens": 2**31}, {"max_tokens": 2**31}),
        (
            {"temperature": 0.5, "top_p": 0.9, "user": "u", "metadata": {"a": "b"}, "store": False, "stream": True},
            {"temperature": 0.5, "top_p": 0.9, "user": "u", "metadata": {"a": "b"}, "store": False, "stream": True},
        ),
        ({"seed": 3, "top_k": 5, "min_p": 0.1}, {"seed": 3, "top_k": 5, "min_p": 0.1}),
        ({"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"include": ["message.output_text.logprobs", "reasoning.encrypted_content"]}, {"logprobs": True}),
        ({"text": {"format": {"type": "text"}}}, {"response_format": {"type": "text"}}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
                }
            },
        ),
        (
            {
                "tools": [{"type": "function", **FUNCTION}],
                "tool_choice": {"type": "function", "name": "f"},
                "parallel_tool_calls": False,
            },
            {
                "tools": [{"type": "function", "function": FUNCTION}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "parallel_tool_calls": False,
            },
        ),
        (
            {
                "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "g"}],
                },
            },
            {"tools": [{"type": "function", "function": {"name": "g"}}], "tool_choice": "required"},
        ),
        (
            {"tools": [{"type": "function", "name": "f"}], "tool_choice": "none"},
            {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
        ),
    ],
)
def test_a_response_is_asked_as_the_same_chat(response: dict[str, Any], of_chat: dict[str, Any]) -> None:
    expected = chat(**of_chat)
    if expected.structured:
        expected = replace(expected, structured_by="text.format")
    assert as_chat(asked(**response)) == expected


def test_a_history_of_items_is_the_chat_of_its_turns() -> None:
    def call(id: str) -> dict[str, Any]:
        return {
            "type": "function_call",
            "id": "fc",
            "call_id": id,
            "name": "f",
            "arguments": "{}",
            "status": "completed",
        }

    def called(id: str) -> dict[str, Any]:
        return {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}

    text = {"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []}
    items = [
        {"role": "user", "content": "q"},
        {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [text]},
        {"type": "reasoning", "id": "rs", "summary": []},
        call("a"),
        call("b"),
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "2"}]},
        {"role": "assistant", "content": "3"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "why?"},
    ]
    assert asked(items).messages == (
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [called("a"), called("b")]},
        {"role": "tool", "content": "1", "tool_call_id": "a"},
        {"role": "tool", "content": "2", "tool_call_id": "b"},
        {"role": "assistant", "content": "3"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "why?"},
    )


@pytest.mark.parametrize(
    ("body", "param", "why"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "send the whole conversation as input"),
        ({"conversation": "conv_1"}, "conversation", "send the whole conversation as input"),
        ({"background": True}, "background", "the request that asks for it"),
        ({"prompt": {"id": "shop", "variables": {"a": 1}}}, "prompt.variables.a", "string"),
        ({"prompt": {"variables": {"a": {"type": "input_image"}}}}, "prompt.variables.a", "give a text"),
        ({"prompt": {"id": "shop", "versions": "2"}}, "prompt.versions", "did you mean 'version'"),
        ({"truncation": "auto"}, "truncation", "too long is refused"),
        ({"reasoning": {"effort": "high"}}, "reasoning", "leave it out"),
        ({"max_tokens": 5}, "max_tokens", "Unrecognized request argument"),
        ({"messages": USER}, "messages", "Unrecognized request argument"),
        ({"instruction": "x"}, "instruction", "did you mean 'instructions'"),
        ({"input": []}, "input", "at least 1 item"),
        ({"input": [{"type": "reasoning"}]}, "input", "reasoning alone asks nothing"),
        ({"input": [{"type": "item_reference", "id": "msg"}]}, "input.0", "answers are not kept"),
        ({"input": [{"type": "web_search_call"}]}, "input.0", "'web_search_call' are not offered"),
        ({"input": ["x"]}, "input.0", "are not offered"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input.0.message.content",
            "'input_image' are not offered",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "a", "output": "1"}]},
            "input.0.call_id",
            "no earlier item made the call 'a'",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "a", "name": "a b", "arguments": "{}"}]},
            "input.0.function_call.name",
            "should match pattern",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools.0", "'web_search' are not offered; give functions"),
        ({"tools": [{"type": "function", "function": FUNCTION}]}, "tools.0.function", "Unrecognized request argument"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "stric": True}}},
            "text.format.json_schema.stric",
            "did you mean 'strict'",
        ),
        ({"text": {"formt": {"type": "text"}}}, "text.formt", "did you mean 'format'"),
        ({"tools": [{"type": "function", "name": "f", "paramters": {}}]}, "tools.0.paramters", "mean 'parameters'"),
        ({"stream_options": {"include_usage": True}}, "stream_options.include_usage", "Unrecognized"),
        ({"temperature": "0.5"}, "temperature", "valid number"),
        ({"max_output_tokens": True}, "max_output_tokens", "valid integer"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice", "give 'auto'"),
        ({"tool_choice": {"type": "function", "name": "g"}}, "tool_choice", "no tool is named 'g'"),
        ({"tool_choice": "required"}, "tool_choice", "needs tools"),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}},
            "tool_choice",
            "no tool is named 'g'",
        ),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice", "give 'auto'"),
        ({"include": ["file_search_call.results"]}, "include", "'file_search_call.results' is not offered"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "leave it out"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.json_schema.schema", "required"),
        ({"max_output_tokens": 0}, "max_output_tokens", "greater than or equal to 1"),
        ({"top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(body: dict[str, Any], param: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        asked(**body)
    assert refused.value.param == param


def test_what_asks_for_nothing_is_survived() -> None:
    harmless = {
        "previous_response_id": None,
        "background": False,
        "truncation": "disabled",
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "auto",
        "max_tool_calls": 3,
        "prompt_cache_key": "k",
        "stream_options": {"include_obfuscation": False},
        "text": {"verbosity": "medium"},
        "tools": [],
        "store": True,
    }
    assert as_chat(asked(**harmless)) == chat(store=True)


def test_a_response_is_recorded_as_the_chat_that_it_is() -> None:
    event = inference("resp_1", asked(instructions="s"), target(), Progress("out", "stop"), "ok", None, 0.5)
    assert (event.endpoint, event.request_id, event.output) == ("chat.completions", "resp_1", "out")
    assert event.messages == ({"role": "system", "content": "s"}, *USER)
    secret = asked("q-secret", instructions="i-secret", user="u-secret", store=False)
    event = inference("resp_1", secret, target(), Progress("a-secret", "stop"), "ok", None, 0.5)
    assert "secret" not in event.model_dump_json()


def test_the_document_types_the_body_and_takes_what_is_parsed() -> None:
    schema = request_document(ResponsesBody)["requestBody"]["content"]["application/json"]["schema"]
    Draft202012Validator.check_schema(schema)
    valid = Draft202012Validator(schema).is_valid
    assert valid({"model": "shop", "input": "hi"})
    assert valid({"model": "shop", "input": [{"role": "user", "content": "hi"}]})
    assert not valid({"model": "shop", "input": [{"type": "web_search_call"}]})
    assert not valid({"model": "shop", "input": "hi", "messages": []})
