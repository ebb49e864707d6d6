"""Spans of calls as the conventions write them, and the records that they become."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.records import RecordInvalid
from services.ingestion.domain.traces import names, records
from services.ingestion.domain.traces.spans import Span, nested, numbered
from services.ingestion.domain.validation import validated

TRACE, ID = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
SKY: Any = {"type": "function", "function": {"name": "sky", "parameters": {"type": "object"}}}
CALL: Any = {"id": "c1", "type": "function", "function": {"name": "sky", "arguments": '{"at": "noon"}'}}
TURNS: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What color is the sky?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL], "weight": 0},
    {"role": "tool", "content": "blue", "tool_call_id": "c1"},
    {"role": "assistant", "content": "It is blue."},
]
CHAT = {names.OPERATION: "chat"}


def span(attributes: dict[str, Any], *events: tuple[str, dict[str, Any]], **further: Any) -> Span:
    return Span(TRACE, ID, attributes, events=events, **further)


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


GENAI: dict[str, Any] = {
    names.SYSTEM: [text("Be brief.")],
    names.INPUT: [
        {"role": "user", "parts": [text("What color "), text("is the sky?")]},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "I look."},
                {"type": "tool_call", "id": "c1", "name": "sky", "arguments": {"at": "noon"}},
            ],
        },
        {"role": "user", "parts": [{"type": "tool_call_response", "id": "c1", "response": "blue"}]},
    ],
    names.OUTPUT: [{"role": "assistant", "parts": [text("It is blue.")], "finish_reason": "stop"}],
    names.TOOLS: [
        {"type": "web_search", "name": "web"},
        {"type": "function", "name": "sky", "parameters": {"type": "object"}},
    ],
}
IN_JSON = {name: json.dumps(value) for name, value in GENAI.items()}
OPENAI = [{k: v for k, v in turn.items() if k != "weight"} for turn in TURNS]
BODIES = [
    ("gen_ai.system.message", {"content": "Be brief."}),
    ("gen_ai.user.message", {"content": "What color is the sky?"}),
    ("gen_ai.assistant.message", {"tool_calls": [CALL]}),
    ("gen_ai.tool.message", {"content": "blue", "id": "c1"}),
    ("gen_ai.choice", {"index": 0, "message": {"role": "assistant", "content": "It is blue."}}),
]
OPENINFERENCE = {
    names.KIND: "LLM",
    "llm.input_messages.0.message.role": "system",
    "llm.input_messages.0.message.content": "Be brief.",
    "llm.input_messages.1.message.role": "user",
    "llm.input_messages.1.message.contents.0.message_content.type": "text",
    "llm.input_messages.1.message.contents.0.message_content.text": "What color is the sky?",
    "llm.input_messages.2.message.role": "assistant",
    "llm.input_messages.2.message.tool_calls.0.tool_call.id": "c1",
    "llm.input_messages.2.message.tool_calls.0.tool_call.function.name": "sky",
    "llm.input_messages.2.message.tool_calls.0.tool_call.function.arguments": '{"at": "noon"}',
    "llm.input_messages.3.message.role": "tool",
    "llm.input_messages.3.message.tool_call_id": "c1",
    "llm.input_messages.3.message.content": "blue",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "It is blue.",
    "llm.tools.0.tool.json_schema": json.dumps(SKY),
}
VALUES_ALONE = {
    names.KIND: "LLM",
    "input.value": json.dumps({"model": "m", "messages": OPENAI[:-1]}),
    "output.value": json.dumps({"choices": [{"message": OPENAI[-1]}]}),
    "llm.tools.0.tool.json_schema": json.dumps(SKY),
}
OPENLLMETRY = {
    names.REQUEST_TYPE: "chat",
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be brief.",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": '[{"type": "text", "text": "What color is the sky?"}]',
    "gen_ai.prompt.2.role": "assistant",
    "gen_ai.prompt.2.tool_calls.0.id": "c1",
    "gen_ai.prompt.2.tool_calls.0.name": "sky",
    "gen_ai.prompt.2.tool_calls.0.arguments": '{"at": "noon"}',
    "gen_ai.prompt.3.role": "tool",
    "gen_ai.prompt.3.tool_call_id": "c1",
    "gen_ai.prompt.3.content": "blue",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "It is blue.",
    "gen_ai.completion.0.finish_reason": "stop",
    "llm.request.functions.0.name": "sky",
    "llm.request.functions.0.parameters": '{"type": "object"}',
}


@pytest.mark.parametrize(
    "told",
    [
        span(CHAT | IN_JSON),
        span(CHAT | GENAI),
        span(CHAT, (names.DETAILS, GENAI)),
        span(CHAT | {names.TOOLS: json.dumps([SKY])}, *BODIES),
        span(CHAT | {names.TOOLS: [SKY]}, *((name, {names.BODY: json.dumps(body)}) for name, body in BODIES)),
        span(
            CHAT | {names.TOOLS: [SKY]},
            (names.PROMPT_EVENT, {names.PROMPT_JSON: json.dumps(OPENAI[:-1])}),
            (names.COMPLETION_EVENT, {names.COMPLETION_JSON: json.dumps(OPENAI[-1:])}),
        ),
        span(dict(reversed(OPENINFERENCE.items()))),
        span(VALUES_ALONE),
        span(OPENLLMETRY),
    ],
)
def test_every_convention_gives_the_same_record(told: Span) -> None:
    assert records.is_call(told)
    [event] = records.submissions(told, "p")
    assert event.record_id == f"otel-{TRACE}-{ID}"
    assert event.record["messages"] == TURNS
    assert json.loads(str(event.record["tools"])) == [SKY]
    assert validated(event).became.sent is None, "in its own form, so that nothing is kept beside it"


def test_each_answer_is_a_record() -> None:
    answers = [{"role": "assistant", "parts": [text(said)]} for said in ("It is blue.", "Blue.")]
    found = records.submissions(span(CHAT | GENAI | {names.OUTPUT: answers}), "p")
    assert [event.record_id[-len(ID) - 2 :].lstrip("-") for event in found] == [f"c-{ID}", f"{ID}-1"]
    assert [event.record["messages"][-1]["content"] for event in found] == ["It is blue.", "Blue."]  # type: ignore[index,call-overload]


def test_parts_of_one_answer_of_the_responses_api_are_one_turn() -> None:
    second = {
        "llm.output_messages.1.message.role": "assistant",
        "llm.output_messages.1.message.tool_calls.0.tool_call.id": "c2",
        "llm.output_messages.1.message.tool_calls.0.tool_call.function.name": "sky",
    }
    [event] = records.submissions(span(OPENINFERENCE | second), "p")
    last: Any = event.record["messages"][-1]  # type: ignore[index,call-overload]
    assert (last["content"], last["tool_calls"][0]["id"]) == ("It is blue.", "c2")
    both = {names.OI_PARAMETERS: '{"n": 2}'}
    assert len(records.submissions(span(OPENINFERENCE | second | both), "p")) == 2


def test_whose_call_it_was_stands_in_subject_and_tags() -> None:
    about = {"user.id": "ann", "session.id": "s1", "gen_ai.response.model": "m", "noria.tag.consent": "yes"}
    told = Span(TRACE, ID, CHAT | GENAI | about, {"service.name": "shop", "noria.tag.team": "x" * 300})
    [event] = records.submissions(told, "p")
    assert event.subject == "ann"
    assert event.tags == {"origin": "trace", "model": "m", "conversation": "s1", "service": "shop", "consent": "yes"}


@pytest.mark.parametrize(
    "attributes",
    [
        {names.KIND: "CHAIN", names.OUTPUT: "[]"},
        {names.KIND: "EMBEDDING"},
        {names.OPERATION: "embeddings"},
        {names.OPERATION: "invoke_agent", **GENAI},
        {names.OPERATION: "execute_tool"},
        {names.REQUEST_TYPE: "embedding"},
        {"http.request.method": "POST"},
        {names.OPERATION: ["chat"]},
        {},
    ],
)
def test_all_else_is_no_call(attributes: dict[str, Any]) -> None:
    assert not records.is_call(span(attributes))


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (span(CHAT | GENAI, failed=True), "failed_call"),
        (span(CHAT | GENAI | {names.ERROR: "timeout"}), "failed_call"),
        (span(CHAT), "no_content"),
        (span(CHAT | {names.INPUT: IN_JSON[names.INPUT]}), "no_content"),
        (span(CHAT | {names.OUTPUT: IN_JSON[names.OUTPUT]}), "no_content"),
        (span(CHAT, ("gen_ai.user.message", {}), ("gen_ai.choice", {"message": {"role": "assistant"}})), "no_content"),
        (span(CHAT, *BODIES[:-1]), "no_content"),
        (span(CHAT | IN_JSON | {names.INPUT: IN_JSON[names.INPUT][:-9]}), "invalid_field"),
        (span(CHAT | GENAI | {names.OUTPUT: [{"role": "x", "parts": [text("y")]}]}), "invalid_field"),
        (
            span(CHAT | GENAI | {names.OUTPUT: [{"role": "assistant", "parts": [{"type": "blob"}]}]}),
            "unsupported_content",
        ),
        (Span("0" * 32, ID, CHAT | GENAI), "no_ids"),
        (Span(TRACE, "", CHAT | GENAI), "no_ids"),
        (span(CHAT | GENAI | {"user.id": "u" * 501}), "invalid_field"),
    ],
)
def test_a_call_without_a_record_has_a_reason(told: Span, reason: str) -> None:
    with pytest.raises(RecordInvalid) as error:
        records.submissions(told, "p")
    assert error.value.code == reason


WORDS = (
    "role",
    "parts",
    "type",
    "content",
    "id",
    "name",
    "arguments",
    "response",
    "message",
    "tool_calls",
    "function",
    "text",
)
KEYS = st.sampled_from([*WORDS, "tool_call", "tool_call_response", "reasoning"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from([*GENAI, *OPENINFERENCE, *VALUES_ALONE, *OPENLLMETRY, names.OI_PARAMETERS, names.ERROR]),
    JSON | JSON.map(json.dumps),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(
    ATTRIBUTES,
    st.lists(st.tuples(st.sampled_from([name for name, _ in BODIES]), st.dictionaries(KEYS, JSON)), max_size=3),
)
def test_whatever_a_span_says_gives_records_or_a_reason(about: dict[str, Any], events: list[Any]) -> None:
    told = span(about, *events)
    records.is_call(told)
    with suppress(RecordInvalid):
        for event in records.submissions(told, "p"):
            validated(event)


def test_attributes_nest_by_their_numbers_whatever_their_order() -> None:
    flat = {f"a.{place}.b": place for place in (10, 9, 0)} | {
        "a.0.b.c": "lost",
        "a.x": 1,
        "ab": 2,
        "a." + "9" * 5000: 3,
    }
    assert [node["b"] for node in numbered(nested(flat, "a"))] == [0, 9, 10]
    assert numbered(nested({"a." + ".".join("b" * 5000): 1}, "a")) == []
