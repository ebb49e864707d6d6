"""A project's prompt: its digest, its bounds, and how it stands before a conversation."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.chat import conversation, offered_tools, with_system
from contracts.project import ProjectSpec, same_weights
from contracts.prompt import Prompt, prompt_digest, values_for
from contracts.records import Conversation, Message, PlainText

TOOL: dict[str, Any] = {"function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
ASKED = Conversation(messages=(Message(role="user", content="q"), Message(role="assistant", content="a")))
SHOWN = Prompt.model_validate({"system": "Be short.", "examples": [{"user": "2+2", "assistant": "4"}], "tools": [TOOL]})


def test_what_is_not_given_is_not_written() -> None:
    assert Prompt(system="Shell.").model_dump(mode="json") == {"system": "Shell."}
    assert prompt_digest(Prompt(system="Shell.")) == "fa2e5881b73dae4a4a6db0b1414388f0214f0fdf265f58d3748fc9071304eb6c"


@pytest.mark.parametrize(
    "changed",
    [
        {"system": "Be brief."},
        {"variables": {"x": "1"}},
        {"examples": [{"user": "2+2", "assistant": "four"}]},
        {"tools": []},
    ],
)
def test_every_part_is_in_the_digest(changed: dict[str, Any]) -> None:
    other = Prompt.model_validate(SHOWN.model_dump(mode="json") | changed)
    assert prompt_digest(other) != prompt_digest(SHOWN)


def test_the_order_of_keys_is_not_in_the_digest() -> None:
    a, b = (
        {"system": "{{ a }}{{ b }}", "variables": dict(pairs)}
        for pairs in ((("a", ""), ("b", None)), (("b", None), ("a", "")))
    )
    assert prompt_digest(Prompt.model_validate(a)) == prompt_digest(Prompt.model_validate(b))


def test_system_examples_and_turns_stand_in_this_order() -> None:
    before, completion = conversation(SHOWN, ASKED)
    assert [(turn["role"], turn["content"]) for turn in before] == [
        ("system", "Be short."),
        ("user", "2+2"),
        ("assistant", "4"),
        ("user", "q"),
    ]
    assert completion == "a"


def test_a_conversation_with_a_system_prompt_of_its_own_stands_alone() -> None:
    own = (Message(role="system", content="Mine."), *ASKED.messages)
    assert with_system(SHOWN, own) == own


def test_a_template_does_not_stand_in_a_conversation() -> None:
    with pytest.raises(ValueError, match="render it"):
        with_system(Prompt(system="Hi {{ name }}", variables={"name": "x"}), ASKED.messages)


def test_a_conversation_without_tools_gets_those_of_the_project() -> None:
    own = ASKED.model_copy(update={"tools": json.dumps([{"type": "function", "function": {"name": "mine"}}])})
    offered = {"name": "look_up", "description": "", "parameters": {"type": "object", "properties": {}}}
    assert offered_tools(SHOWN, ASKED) == [{"type": "function", "function": offered}]
    assert [tool["function"]["name"] for tool in offered_tools(SHOWN, own)] == ["mine"]
    assert offered_tools(Prompt(), ASKED) == []
    assert offered_tools(SHOWN, PlainText(text="x")) == []


def test_a_request_s_value_comes_before_the_default() -> None:
    prompt = Prompt(system="{{ a }}{{ b }}{{ c }}", variables={"a": "1", "b": "2", "c": None})
    assert values_for(prompt, {"b": "", "other": "x"}) == {"a": "1", "b": "", "c": None}
    assert prompt.required == ("c",)


def deep(levels: int) -> dict[str, Any]:
    return {"type": "object"} if levels == 0 else {"properties": deep(levels - 1)}


@pytest.mark.parametrize(
    ("prompt", "where"),
    [
        ({"variables": {"a": "x"}}, "not there"),
        ({"system": "x", "variables": {"a b": "x"}}, "variables"),
        ({"system": "x", "variables": {f"v{n}": "" for n in range(65)}}, "64"),
        ({"system": "x", "variables": {"a": "x" * 20_001}}, "20000"),
        ({"system": "x" * 20_001}, "20000"),
        ({"examples": [{"user": "q", "assistant": ""}]}, "assistant"),
        ({"examples": [{"user": "q", "assistant": "a"}] * 33}, "32"),
        ({"tools": [TOOL, TOOL]}, "two tools have the name 'look_up'"),
        ({"tools": [{"function": {"name": "f", "parameters": {"type": "array"}}}]}, "of type 'object'"),
        ({"tools": [{"function": {"name": "f", "parameters": deep(65)}}]}, "deeper than 64"),
        ({"tools": [{"function": {"name": "f", "arguments": {}}}]}, "arguments"),
        ({"sistem": "x"}, "sistem"),
    ],
)
def test_what_is_wrong_is_refused_by_name(prompt: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError, match=where):
        Prompt.model_validate(prompt)


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"prompt": {"system": "Other."}}, True),
        ({"serve": {"max_tokens": 1}, "gate": {"require": []}, "evaluate": {"suite": ["loss"]}}, True),
        ({"base": "other"}, False),
        ({"train": {"seed": 8}}, False),
        ({"prep": {"held_out": 0.2}}, False),
    ],
)
def test_weights_hang_on_base_preparation_and_recipe(changed: dict[str, Any], same: bool) -> None:
    spec = {"project": "p", "base": "b", "gate": {"require": []}}
    assert same_weights(ProjectSpec.model_validate(spec), ProjectSpec.model_validate(spec | changed)) is same
