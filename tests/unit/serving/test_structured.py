"""What an answer must look like: which parameters say so, and what Triton is told."""

import json
from typing import Any

import jsonschema
import pytest
from llguidance import LLMatcher, LLTokenizer

from services.serving.domain.errors import Invalid
from services.serving.domain.requests import parse_completion
from services.serving.domain.sampling import begun, prompt_text, sampling_parameters
from services.serving.domain.structured import call_schema
from services.serving.triton.backend.sampling_parameters import parse
from services.serving.triton.grammar_trial import check_grammar
from services.serving.triton.grammars import GrammarRefused, grammar
from tests.unit.serving.builders import chat, target

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
NAMED = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"place": {"$ref": "#/$defs/Place"}},
                "required": ["place"],
                "$defs": {"Place": {"type": "string", "maxLength": 5}},
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]


def sent(**parameters: Any) -> dict[str, Any] | None:
    asked = chat("".join(f',"{name}":{json.dumps(value)}' for name, value in parameters.items()))
    said = sampling_parameters(asked, target()).get("structured_outputs")
    assert said is None or parse(json.dumps({"structured_outputs": said})).structured_outputs
    return None if said is None else json.loads(said)


def test_every_parameter_becomes_vllms() -> None:
    assert sent(response_format={"type": "text"}) is None
    assert sent(response_format={"type": "json_object"}) == {"json_object": True}
    assert sent(response_format=NAMED) == {"json": SCHEMA}
    assert sent(guided_json=SCHEMA) == {"json": SCHEMA}
    assert sent(guided_json=json.dumps(SCHEMA)) == {"json": SCHEMA}
    assert sent(guided_choice=["a", "b"]) == {"choice": ["a", "b"]}
    assert sent(guided_regex="a+") == {"regex": "a+"}
    assert sent(guided_grammar='root ::= "a"') == {"grammar": 'root ::= "a"'}
    assert sent(structured_outputs={"regex": "a+"}) == {"regex": "a+"}


def test_what_cannot_be_enforced_is_left_out_where_nobody_asked_for_strictness() -> None:
    odd = {"type": "array", "uniqueItems": True, "items": {"type": "integer"}}
    free = sent(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": odd}})
    assert free
    assert grammar(free)
    with pytest.raises(GrammarRefused, match="uniqueItems"):
        grammar({"json": odd})


def options(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(count)}}


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"json": {"$ref": "#"}}, "the json cannot be enforced: no answer fits it$"),
        (
            {"json": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}},
            "no answer",
        ),
        ({"json": options(700)}, "items; max is"),
        ({"json": {"type": "array", "items": {"required": ["x"], "properties": {"x": options(700)}}}}, "items; max is"),
        ({"regex": "[^\\s\\S]"}, "the regex cannot be enforced: no answer fits it$"),
        ({"grammar": "start: start"}, "the grammar cannot be enforced: no answer fits it$"),
    ],
)
def test_what_fails_at_its_first_tokens_is_refused_before_anything_runs(wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(GrammarRefused, match=why):
        check_grammar(wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        {"json": options(300)},
        {"json": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}},
        {"choice": [f"word {i}" for i in range(1000)]},
        {"regex": "(a{1,1000}){1,1000}"},
        {"regex": "x?"},
        {"grammar": "%llguidance {}\nstart: <|a_models_own|> /a+/"},
        {"grammar": "%llguidance {}\nstart: <[300]>"},
    ],
)
def test_what_can_be_begun_is_let_on(wanted: dict[str, Any]) -> None:
    check_grammar(wanted)


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        (',"response_format":{"type":"xml"}', "response_format.type"),
        (',"response_format":{"type":"json_schema"}', "response_format.json_schema"),
        (',"response_format":{"type":"json_object"},"guided_regex":"a"', "response_format"),
        (',"guided_json":"{"', "guided_json"),
        (',"guided_json":"[]"', "guided_json"),
        (',"structured_outputs":{"xml":1}', "structured_outputs.xml"),
        (',"guided_decoding_backend":"outlines"', "guided_decoding_backend"),
        (',"tool_choice":"required"', "tool_choice"),
        (',"tool_choice":"perhaps"', "tool_choice"),
        (f',"tools":{json.dumps(TOOLS)},"tool_choice":{{"type":"function","function":{{"name":"g"}}}}', "tool_choice"),
        (f',"tools":{json.dumps(TOOLS)},"tool_choice":{{"type":"custom"}}', "tool_choice"),
        (
            ',"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"string"}}}]',
            "tools.0.function.parameters",
        ),
    ],
)
def test_what_says_nothing_is_refused_by_name(extra: str, param: str) -> None:
    with pytest.raises(Invalid) as refused:
        chat(extra)
    assert refused.value.param == param


def test_a_completion_can_be_held_to_a_schema_too() -> None:
    asked = parse_completion(json.dumps({"model": "shop", "prompt": "x", "guided_json": SCHEMA}).encode())
    assert json.loads(sampling_parameters(asked, target())["structured_outputs"]) == {"json": SCHEMA}
    assert asked.parameters["guided_json"] == SCHEMA


def test_a_forced_call_is_begun_for_the_model_and_held_to_its_schema() -> None:
    asked = chat(f',"tools":{json.dumps(TOOLS)},"tool_choice":"required"')
    assert prompt_text(asked, target()).text.endswith("<tool_call>\n")
    assert begun(asked, target()) == "<tool_call>\n"
    schema = json.loads(sampling_parameters(asked, target())["structured_outputs"])["json"]
    jsonschema.validate({"name": "weather", "arguments": {"place": "Oslo"}}, schema)
    jsonschema.validate({"name": "now", "arguments": {}}, schema)
    for wrong in (
        {"name": "weather", "arguments": {"place": "Reykjavik"}},
        {"name": "weather", "arguments": {"place": "Oslo", "more": 1}},
        {"name": "now", "arguments": {"place": "Oslo"}},
        {"name": "else", "arguments": {}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


PLACE = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("parameters", "fit", "wrong"),
    [
        (
            {"title": "x", "properties": {"a": {"type": "integer"}}},
            [{}, {"a": 1}],
            [1, "text", None, {"a": "b"}, {"b": 1}],
        ),
        ({"$ref": "#/$defs/P", "$defs": {"P": PLACE}}, [{"a": 1}], [1, {}]),
        ({"anyOf": [PLACE, {"type": "integer"}]}, [{"a": 1}], [1, {}]),
        ({}, [{}], [1, {"a": 1}]),
    ],
)
def test_arguments_are_an_object_whether_their_schema_says_so_or_not(
    parameters: dict[str, Any], fit: list[Any], wrong: list[Any], strict: bool
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters, "strict": strict}}
    asked = chat(f',"tools":{json.dumps([tool])},"tool_choice":"required"')
    wanted = json.loads(sampling_parameters(asked, target())["structured_outputs"])
    check_grammar(wanted)
    assert [follows(wanted, {"name": "f", "arguments": each}) for each in fit] == [True] * len(fit)
    assert [follows(wanted, {"name": "f", "arguments": each}) for each in wrong] == [False] * len(wrong)


def follows(wanted: dict[str, Any], answer: Any) -> bool:
    """Whether the grammar takes an answer to its end."""
    matcher: Any = LLMatcher(LLTokenizer("byte"), grammar(wanted), log_level=0)
    return bool(matcher.consume_tokens(list(json.dumps(answer).encode()))) and bool(matcher.is_accepting())


def test_a_tool_chosen_by_name_is_the_only_one() -> None:
    choice = {"type": "function", "function": {"name": "now"}}
    asked = chat(f',"tools":{json.dumps(TOOLS)},"tool_choice":{json.dumps(choice)}')
    schema = json.loads(sampling_parameters(asked, target())["structured_outputs"])["json"]
    assert schema["properties"]["name"] == {"const": "now"}
    assert len(asked.tools) == 2


def test_free_calls_are_held_to_nothing() -> None:
    asked = chat(f',"tools":{json.dumps(TOOLS)}')
    assert "structured_outputs" not in sampling_parameters(asked, target())
    assert begun(asked, target()) == ""


def test_mistral_writes_a_list_of_calls() -> None:
    tools = chat(f',"tools":{json.dumps(TOOLS)}').tools
    many = call_schema("mistral", tools, strict=False, parallel=True)
    one = call_schema("mistral", tools, strict=False, parallel=False)
    calls = [{"name": "now", "arguments": {}}] * 2
    jsonschema.validate(calls, many)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(calls, one)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([], many)
    assert call_schema("llama3", tools[1:], strict=True, parallel=True)["required"] == ["name", "parameters"]


def test_a_choice_leaves_no_room_for_calls() -> None:
    asked = chat(f',"tools":{json.dumps(TOOLS)},"guided_choice":["a"]')
    with pytest.raises(Invalid, match="leave tools out"):
        sampling_parameters(asked, target())
