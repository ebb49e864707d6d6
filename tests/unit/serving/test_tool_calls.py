"""Calls of tools in a model's text: read the same whatever pieces it comes in, and nothing is lost."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.lm.tool_format import ToolFormat
from services.serving.domain.tool_calls import Arguments, CallBegun, Content, Delta, ToolCallParser

FORMATS: tuple[ToolFormat, ...] = ("hermes", "llama3", "mistral")
NAMES = ("f", "get_weather")


def read(format: ToolFormat, pieces: list[str], parallel: bool = True) -> tuple[str, list[tuple[str, str]]]:
    """Content and calls of an answer that comes in pieces."""
    count = itertools.count()
    parser = ToolCallParser(format, NAMES, lambda: f"id{next(count)}", parallel)
    deltas: list[Delta] = [delta for piece in pieces for delta in parser.feed(piece)] + parser.finish()
    calls: list[list[str]] = []
    content = ""
    for delta in deltas:
        match delta:
            case Content(text):
                content += text
            case CallBegun(index, _, name):
                assert index == len(calls)
                calls.append([name, ""])
            case Arguments(index, text):
                assert index == len(calls) - 1
                calls[index][1] += text
    return content, [(name, arguments) for name, arguments in calls]


WRITTEN: list[tuple[ToolFormat, str, str, list[tuple[str, str]]]] = [
    (
        "hermes",
        '<tool_call>\n{"name": "f", "arguments": {"a": "}\\" </tool_call>"}}\n</tool_call>',
        "",
        [("f", '{"a": "}\\" </tool_call>"}')],
    ),
    ("hermes", 'Yes.\n\n<tool_call>{"name":"f","arguments":{}}</tool_call>\n', "Yes.", [("f", "{}")]),
    ("hermes", '<tool_call>{"arguments":{"z":[1,{}]},"name":"f"}</tool_call>', "", [("f", '{"z": [1, {}]}')]),
    ("hermes", '<tool_call>{"name":"f","arguments":"{\\"a\\":1}"}</tool_call>', "", [("f", '{"a":1}')]),
    ("hermes", '<tool_call>{"name":"f"}</tool_call>', "", [("f", "{}")]),
    (
        "hermes",
        '<tool_call>{"name":"f","arguments":{"a":1},"id":{"arguments":{"b":2}}}</tool_call>',
        "",
        [("f", '{"a":1}')],
    ),
    (
        "hermes",
        '<tool_call>{"name":"f","arguments":{}}\n{"name":"f","arguments":{"b":1}}</tool_call>',
        "",
        [("f", "{}"), ("f", '{"b":1}')],
    ),
    ("hermes", '<tool_call>{"name":"f","arguments":{"a":', "", [("f", '{"a":')]),
    ("hermes", '<tool_call>{"name":"f","arguments":{}}</tool_', "", [("f", "{}")]),
    (
        "hermes",
        '<tool_call>{"name":"nobody","arguments":{}}</tool_call>',
        '<tool_call>{"name":"nobody","arguments":{}}</tool_call>',
        [],
    ),
    (
        "hermes",
        '<tool_call>{"name":"f","arguments":[]}</tool_call> b',
        '<tool_call>{"name":"f","arguments":[]}</tool_call> b',
        [],
    ),
    ("hermes", '<tool_call>no <tool_call>{"name":"f"}</tool_call>', "<tool_call>no", [("f", "{}")]),
    ("hermes", " a < b <tool_cal", " a < b <tool_cal", []),
    ("hermes", '{"name":"f","arguments":{}} ', '{"name":"f","arguments":{}} ', []),
    ("llama3", '\n{"name": "f", "parameters": {"a": 1}}', "", [("f", '{"a": 1}')]),
    (
        "llama3",
        '<|python_tag|>{"name": "f", "parameters": {}}; {"name": "get_weather", "parameters": {}}',
        "",
        [("f", "{}"), ("get_weather", "{}")],
    ),
    ("llama3", '{"type": "function", "name": "f", "parameters": {}}', "", [("f", "{}")]),
    ("llama3", '{"answer": 1} <|python_tag|>{"name":"f","parameters":{}}', '{"answer": 1}', [("f", "{}")]),
    ("llama3", 'See {"name": "f", "parameters": {}}', 'See {"name": "f", "parameters": {}}', []),
    (
        "mistral",
        '[TOOL_CALLS] [{"name": "f", "arguments": {"a": [1]}}, {"name": "f", "arguments": {}}]',
        "",
        [("f", '{"a": [1]}'), ("f", "{}")],
    ),
    ("mistral", "[TOOL_CALLS] hm [1]", "[TOOL_CALLS] hm [1]", []),
    ("mistral", "", "", []),
]


@pytest.mark.parametrize(("format", "text", "content", "calls"), WRITTEN, ids=lambda value: str(value)[:40])
def test_what_is_written_is_read(format: ToolFormat, text: str, content: str, calls: list[tuple[str, str]]) -> None:
    assert read(format, [text]) == (content, calls)
    assert read(format, list(text)) == (content, calls)


def test_an_answer_in_json_that_is_no_call_is_not_held_back() -> None:
    parser = ToolCallParser("llama3", NAMES, lambda: "id")
    assert parser.feed('{"answer": ') == [Content('{"answer":')]


def test_without_parallel_calls_the_first_counts() -> None:
    text = '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "get_weather", "arguments": {}}]'
    assert read("mistral", list(text), parallel=False) == ("", [("f", '{"a": 1}')])


MARKUP = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", *'[]{}"\\,:; \n<a')
JSON_PARTS = ('"name"', '"arguments"', '"parameters"', '"f"')
OBJECTS = ('{"name": "f", "arguments": {"a": "é"}}', '{"name":"f","parameters":{}}')
WORDS = st.sampled_from((*MARKUP, *JSON_PARTS, *OBJECTS))


@given(st.sampled_from(FORMATS), st.lists(WORDS, max_size=14).map("".join), st.data())
def test_cuts_change_nothing(format: ToolFormat, text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    assert read(format, pieces) == read(format, [text]) == read(format, list(text))


@given(st.sampled_from(FORMATS), st.lists(WORDS, max_size=14).map("".join))
def test_an_answer_without_calls_is_content_to_the_letter(format: ToolFormat, text: str) -> None:
    content, calls = read(format, [text])
    assert calls or content == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.dictionaries(st.text(max_size=5), JSON, max_size=3)), min_size=1, max_size=3
)


def write(format: ToolFormat, calls: list[tuple[str, Any]], indent: int | None) -> str:
    key = "parameters" if format == "llama3" else "arguments"
    said = [json.dumps({"name": name, key: arguments}, ensure_ascii=False, indent=indent) for name, arguments in calls]
    match format:
        case "hermes":
            return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in said)
        case "llama3":
            return "; ".join(said)
        case "mistral":
            return f"[TOOL_CALLS] [{', '.join(said)}]"


@given(st.sampled_from(FORMATS), CALLS, st.none() | st.integers(0, 3))
@example("llama3", [("f", {"name": "x", "arguments": {"}": "{"}})], None)
def test_every_call_that_a_model_writes_comes_out(
    format: ToolFormat, calls: list[tuple[str, Any]], indent: int | None
) -> None:
    content, found = read(format, list(write(format, calls, indent)))
    assert (content, [(name, json.loads(arguments)) for name, arguments in found]) == ("", calls)
