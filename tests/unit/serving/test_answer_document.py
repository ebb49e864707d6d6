"""The OpenAPI document's answers are those that are given."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from services.serving.answer_document import (
    ChatAnswer,
    CompletionAnswer,
    ModelCard,
    ModelList,
    ResponseAnswer,
    answer_document,
)
from services.serving.domain.answers import Choice, Head, OfferedTools, Usage, model_card
from services.serving.domain.forms import FORMS
from services.serving.domain.responses_request import parse_responses
from tests.unit.serving.builders import target

SCORES = [{"5": {"logprob": value, "rank": 1, "decoded_token": "é"}} for value in (None, -0.5)]
CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
SHOWN = parse_responses(b'{"model": "shop", "input": "hi", "metadata": {"a": "b"}, "tool_choice": "none"}').shown


def check(kind: type[BaseModel], body: dict[str, Any]) -> None:
    content = answer_document(kind, stream=True)[200]["content"]
    assert sorted(content) == ["application/json", "text/event-stream"]
    schema = content["application/json"]["schema"]
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(body)
    kind.model_validate(body)
    for field in body:
        assert not Draft202012Validator(schema).is_valid(body | {field: [[]]}), field


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [("chat.completions", ChatAnswer), ("completions", CompletionAnswer), ("responses", ResponseAnswer)],
)
def test_an_answer_is_what_the_document_says(endpoint: Any, kind: type[BaseModel], tools: bool, reason: str) -> None:
    offered = OfferedTools("hermes", frozenset({"f"})) if tools and endpoint != "completions" else None
    scores = SCORES if endpoint == "completions" else SCORES[1:]
    for logprobs in (None, 1):
        head = Head("id", endpoint, 1, target(), tools=offered, logprobs=logprobs, shown=SHOWN)
        for text in ("é", CALL, f"a{CALL}"):
            check(kind, FORMS[endpoint].whole([Choice(head, text, reason, scores)], Usage(5, 2)))


def test_a_model_is_what_the_document_says() -> None:
    card = model_card("shop", target(), ready=False)
    check(ModelCard, card)
    check(ModelList, {"object": "list", "data": [card]})
