"""Tools and calls in a prompt: as the base's own template writes them, and in words where it has none."""

import json
from typing import Any

import pytest

from services.lm.control_tokens import ControlVocabulary
from services.lm.errors import ControlTokens
from services.lm.template import ChatTemplate, compile_template
from services.lm.tool_format import with_tools
from tests.unit.serving.builders import template

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {"name": "f", "description": "é", "parameters": {"type": "object", "properties": {}}},
    }
]
CALL = {"id": "call_0123456789", "type": "function", "function": {"name": "f", "arguments": '{"a": {"b": 1}}'}}
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "r1", "tool_call_id": "call_0123456789"},
]
LISTED = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
TURN = "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' }}"


def loop(call: str, tool: str) -> str:
    """A template that lists tools first, and writes a call and a result so."""
    return (
        f"{LISTED}{{% for message in messages %}}"
        f"{{% if message.tool_calls %}}{{% for c in message.tool_calls %}}{call}{{% endfor %}}"
        f"{{% elif message.role == 'tool' %}}{tool}{{% else %}}{TURN}{{% endif %}}{{% endfor %}}"
    )


WRITTEN = {
    "hermes": (
        '<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>',
        "{% if not message.name %}{{ raise_exception('a name') }}{% endif %}{{ message.name + message.content }}",
    ),
    "llama3": (
        '{{ \'{"name": "\' + c.function.name + \'", "parameters": \' }}{{ c.function.arguments | tojson }}{{ "}" }}',
        '{{ {"output": message.content} | tojson }}',
    ),
    "mistral": (
        "{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}[TOOL_CALLS] [{{ c.function | tojson }}]",
        "[TOOL_RESULTS]{{ message.tool_call_id | length }}{{ message.content }}",
    ),
}


def render(found: ChatTemplate, turns: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
    shown, offered = with_tools(found.tool_format, turns, tools)
    return found.render(shown, tools=offered).text


@pytest.mark.parametrize(
    ("format", "call"),
    [
        ("hermes", '<tool_call>\n{"name": "f", "arguments": {"a": {"b": 1}}}</tool_call>fr1'),
        ("llama3", '{"name": "f", "parameters": {"a": {"b": 1}}}{"output": "r1"}'),
        ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {"a": {"b": 1}}}][TOOL_RESULTS]9r1'),
    ],
)
def test_a_template_writes_tools_and_calls_its_own_way(format: str, call: str) -> None:
    found = template(loop(*WRITTEN[format]))
    assert found.tool_format == format
    text = render(found, TURNS, TOOLS)
    assert text.endswith(f"q<|im_end|>{call}")
    assert '"description": "é"' in text


@pytest.mark.parametrize(
    "source",
    [
        "{% for message in messages %}{{ message.content }}{% endfor %}",
        LISTED + "{% for message in messages %}{{ message.content }}{% endfor %}",
        loop("<tool_call>\n<function={{ c.function.name }}></tool_call>", "{{ message.content }}"),
        loop("{{ raise_exception('no calls') }}", ""),
    ],
    ids=["no tools", "no calls", "calls that nobody here reads", "calls refused"],
)
def test_a_template_without_known_calls_has_no_format(source: str) -> None:
    assert template(source).tool_format is None


def test_a_template_without_tools_gets_them_in_words() -> None:
    text = render(template(), [*TURNS, {**TURNS[3], "content": "r2"}], TOOLS)
    system, user, assistant, results, end = text.split("<|im_start|>")[1:]
    assert system.startswith("system\nS\n\n# Tools")
    assert '{"type": "function", "function": {"name": "f", "description": "é"' in system
    assert "<tool_call>" in system
    assert user == "user\nq<|im_end|>\n"
    assert assistant == 'assistant\n<tool_call>\n{"name": "f", "arguments": {"a": {"b": 1}}}\n</tool_call><|im_end|>\n'
    assert results == ("user\n<tool_response>\nr1\n</tool_response>\n<tool_response>\nr2\n</tool_response><|im_end|>\n")
    assert end == "assistant\n"


@pytest.mark.parametrize("format", ["hermes", "llama3", "mistral", None])
@pytest.mark.parametrize("broken", ['{"a": ', "[1]", '{"a": ' * 10_000])
def test_a_broken_call_stands_as_it_was_written(format: str | None, broken: str) -> None:
    found = template(loop(*WRITTEN[format])) if format else template()
    call = {**CALL, "function": {"name": "f", "arguments": broken}}
    assert json.dumps(broken) in render(found, [*TURNS[:2], {**TURNS[2], "tool_calls": [call]}, TURNS[3]], TOOLS)


def test_a_conversation_without_tools_stays_as_it_is() -> None:
    plain = [{"role": "user", "content": "q"}, {"role": "tool", "content": "r"}]
    assert with_tools(None, plain, ()) == (plain, ())


@pytest.mark.parametrize("format", ["hermes", "llama3", "mistral", None])
def test_control_tokens_in_tools_are_text(format: str | None) -> None:
    found = template(loop(*WRITTEN[format])) if format else template()
    tools = [{"type": "function", "function": {"name": "f", "description": "<|im_end|>", "parameters": {}}}]
    shown, offered = with_tools(found.tool_format, TURNS, tools)
    rendered = found.render(shown, tools=offered)
    assert rendered.marked
    assert "\U000f0000<|im_end|>\U000f0001" in rendered.text


@pytest.mark.parametrize("where", ["tools", "arguments"])
def test_control_tokens_in_names_are_refused(where: str) -> None:
    found = template(loop(*WRITTEN["hermes"]))
    bad = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"<|im_end|>": {}}}}}
    call = {**CALL, "function": {"name": "f", "arguments": '{"<|im_end|>": 1}'}}
    turns = [*TURNS[:2], {**TURNS[2], "tool_calls": [call]}] if where == "arguments" else TURNS
    with pytest.raises(ControlTokens, match="name"):
        render(found, turns, [bad] if where == "tools" else [])


def test_words_that_a_model_writes_itself_stay_text_in_a_result() -> None:
    """Qwen's <tool_call> is one token: a web page that a tool has read shall open no call."""
    vocabulary = ControlVocabulary(frozenset({"<|im_end|>"}), frozenset({"<tool_call>"}))
    found = compile_template(loop(*WRITTEN["hermes"]), {}, vocabulary)
    shown, _ = with_tools(found.tool_format, [*TURNS[:3], {**TURNS[3], "content": "<tool_call>"}], TOOLS)
    text = found.render(shown, tools=TOOLS).text
    assert text.endswith("f\U000f0000<tool_call>\U000f0001")
    assert '\n<tool_call>\n{"name": "f"' in text.replace("<|im_end|>", "\n")
