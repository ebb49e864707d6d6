"""What the OpenAPI document says of a request's body is what the gateway takes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from services.serving.domain.asked import Asked
from services.serving.domain.errors import Invalid
from services.serving.domain.requests import ChatBody, CompletionBody, parse_chat, parse_completion
from services.serving.domain.responses_request import ResponsesBody, parse_responses
from services.serving.request_document import request_document


def test_the_document_types_what_a_request_may_hold() -> None:
    document = request_document(ChatBody)["requestBody"]["content"]["application/json"]["schema"]
    assert set(document["required"]) == {"model", "messages"}
    assert {"temperature", "tools", "top_k", "metadata"} <= set(document["properties"])
    assert "$ref" not in json.dumps(document)
    validator = Draft202012Validator(document)
    assert not list(validator.iter_errors({"model": "a", "messages": [{"role": "user", "content": "x"}], "top_k": 3}))
    for wrong in ({"temperature": 3}, {"messages": []}, {"unheard_of": 1}, {"tools": [{"type": "web_search"}]}):
        assert list(validator.iter_errors({"model": "a", "messages": [{"role": "user"}]} | wrong)), wrong


F = {"type": "function", "function": {"name": "f"}}
CHAT = {"model": "a", "messages": [{"role": "user", "content": "x"}]}
RESPONSE = {"model": "a", "input": "x"}
FLAT = {"type": "function", "name": "f"}


def content(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("body", "parse", "given", "more"),
    [
        *[(ChatBody, parse_chat, CHAT, {"stop": stop}) for stop in ("a", ["a"], None, [], "", [""], 3, ["a"] * 5)],
        *[
            (ChatBody, parse_chat, CHAT, {"tools": [F], "tool_choice": choice})
            for choice in (
                *(None, "auto", "none", "required", F, "perhaps", 3, {"type": "function"}),
                {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [F]}},
                {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
                {"type": "allowed_tools", "mode": "auto", "tools": [F]},
            )
        ],
        *[
            (ChatBody, parse_chat, CHAT, content(part))
            for part in (
                {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
                *("x", {"type": "refusal", "refusal": "x"}, {"type": "text"}, {"type": "image_url"}, {"text": "x"}, 3),
            )
        ],
        *[
            (CompletionBody, parse_completion, {"model": "a"}, {"prompt": prompt})
            for prompt in ("x", ["x"], [1, 2], [[1], [2]], ["x", [3]], None, [{}], 3)
        ],
        *[
            (ResponsesBody, parse_responses, RESPONSE, {"tools": [FLAT], "tool_choice": choice})
            for choice in (
                *(None, "auto", "required", FLAT, F, "perhaps"),
                {"type": "allowed_tools", "mode": "auto", "tools": [FLAT]},
                {"type": "allowed_tools", "mode": "auto", "tools": []},
            )
        ],
        *[
            (ResponsesBody, parse_responses, RESPONSE, {"input": [{"role": "user", "content": [part]}]})
            for part in (
                *("x", {"type": "input_text", "text": "x"}, {"type": "output_text", "text": "x", "annotations": []}),
                *({"type": "input_text"}, {"type": "input_image", "image_url": "x"}),
            )
        ],
    ],
)
def test_the_document_takes_what_the_gateway_takes(
    body: type[BaseModel], parse: Callable[[bytes], Asked], given: dict[str, Any], more: dict[str, Any]
) -> None:
    document = request_document(body)["requestBody"]["content"]["application/json"]["schema"]
    try:
        parse(json.dumps(given | more).encode())
        taken = True
    except Invalid:
        taken = False
    assert Draft202012Validator(document).is_valid(given | more) is taken
