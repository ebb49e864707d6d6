"""Answers of the bundled engine follow what was asked for, whatever the model would rather say: here random weights."""

import json
import random
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from services.lm.tool_format import ToolFormat
from services.serving.domain.structured import call_or_answer, call_schema, opening
from services.serving.domain.tool_calls import Arguments, CallBegun, Content, ToolCallParser
from services.serving.triton.backend.sampling_parameters import BadSampling
from services.serving.triton.backend.serve import Served, open_model
from tests.lm_bases import make_base
from tests.unit.serving.engines import Heard

WORDS = ["name", "größe", "a b", 'q"uote', "x-1", "日本", "tab\t", "$ref", "n"]


def schema(chance: random.Random, depth: int = 0) -> dict[str, Any]:  # noqa: C901  a table of kinds
    """A schema whose values end: texts, lists and objects are bounded."""
    kinds = ["string", "integer", "number", "boolean", "enum", "const", "pattern", "format", "null"]
    kind = chance.choice(kinds if depth > 2 else kinds + ["object", "array", "anyOf", "tuple", "map", "ref"] * 2)
    low = chance.randint(-1000, 1000)
    match kind:
        case "string":
            return {"type": "string", "minLength": (least := chance.randint(0, 3)), "maxLength": least + 5}
        case "integer":
            return {"type": "integer", "minimum": low, "maximum": low + chance.randint(0, 10**4)}
        case "number":
            return {"type": "number", "exclusiveMinimum": low, "maximum": low + 7.5}
        case "enum":
            return {"enum": chance.sample([1, 2.5, True, None, "x", "ü", ["a"], {"k": 1}], 3)}
        case "const":
            return {"const": chance.choice(WORDS)}
        case "pattern":
            return {"type": "string", "pattern": chance.choice(["^[a-c]{2,4}$", "^x(1|22)?-$", "^\\d{3}$"])}
        case "format":
            return {"type": "string", "format": chance.choice(["date", "time", "uuid", "ipv4", "date-time"])}
        case "object":
            names = chance.sample(WORDS, chance.randint(0, 4))
            required = [name for name in names if chance.random() < 0.6]
            inner = {name: schema(chance, depth + 1) for name in names}
            return {"type": "object", "properties": inner, "required": required, "additionalProperties": False}
        case "array":
            return {
                "type": "array",
                "items": schema(chance, depth + 1),
                "minItems": chance.randint(0, 1),
                "maxItems": 2,
            }
        case "anyOf":
            return {"anyOf": [schema(chance, depth + 1), schema(chance, depth + 1)]}
        case "tuple":
            return {
                "type": "array",
                "prefixItems": [schema(chance, depth + 1), {"type": "null"}],
                "items": False,
                "minItems": 2,
            }
        case "map":
            return {
                "type": "object",
                "properties": {"k": schema(chance, depth + 1)},
                "required": ["k"],
                "maxProperties": 1,
            }
        case "ref":
            return {"$defs": {"t": schema(chance, depth + 1)}, "type": "object", "properties": {"r": {"$ref": "#/$defs/t"}},
                    "required": ["r"], "additionalProperties": False} if depth == 0 else {"type": "boolean"}  # fmt: skip
        case _:
            return {"type": kind}


@contextmanager
def served(base: Path) -> Generator[Served]:
    folder = base / "1"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"model": str(base), "dtype": "float32", "max_num_seqs": 32}))
    made = open_model(folder, None, lambda _: None)
    try:
        yield made
    finally:
        made.engine.stop()


@pytest.fixture(scope="module", params=["smollm2", "llama2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    with served(make_base(request.param, tmp_path_factory.mktemp("base"), weights=True)) as made:
        yield made


def ask(model: Served, structured: dict[str, Any], **sampling: Any) -> Heard:
    heard = Heard()
    wishes = {"max_tokens": None, "temperature": 1.0, "structured_outputs": json.dumps(structured), **sampling}
    model.engine.submit(model.request("list all files", json.dumps(wishes), "{}", heard))
    return heard


def test_200_random_schemas_have_valid_answers(model: Served) -> None:
    chance = random.Random(11)
    schemas = [schema(chance) for _ in range(200)]
    heard = [ask(model, {"json": each}, seed=i) for i, each in enumerate(schemas)]
    kinds: set[type] = set()
    for each, listener in zip(schemas, heard, strict=True):
        text, last = listener.whole(120)
        assert (last.finish_reason, last.error) == ("stop", None), (each, text)
        answer = json.loads(text)
        jsonschema.validate(answer, each, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        kinds.add(type(answer))
    assert kinds == {dict, list, str, int, float, bool, type(None)}


def test_json_objects_choices_regular_expressions_and_grammars_are_followed(model: Served) -> None:
    for seed in range(5):
        assert ask(model, {"choice": ["yes", "no", "größer"]}, seed=seed).whole()[0] in ("yes", "no", "größer")
        assert re.fullmatch(r"\d{3}-[ab]+x", ask(model, {"regex": r"^\d{3}-[ab]{1,9}x$"}, seed=seed).whole()[0])
        assert ask(model, {"grammar": 'root ::= "a" | "b" "c"'}, seed=seed).whole()[0] in ("a", "bc")
    text, last = ask(model, {"json_object": True}, max_tokens=60).whole()
    assert text.lstrip().startswith("{")
    assert last.finish_reason in ("stop", "length")


TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"$ref": "#/$defs/Place"},
                    "days": {"type": "integer", "maximum": 9, "minimum": 0},
                },
                "required": ["place"],
                "$defs": {"Place": {"type": "string", "minLength": 1, "maxLength": 5}},
            },
        },
    },
]


def read(format: ToolFormat, text: str) -> tuple[str, list[dict[str, Any]]]:
    """An answer's content and calls, as the gateway reads them."""
    parser = ToolCallParser(format, {"now", "weather"}, lambda: "id")
    content, calls = "", list[dict[str, Any]]()
    for delta in [*parser.feed(text), *parser.finish()]:
        match delta:
            case Content(more):
                content += more
            case CallBegun(_, _, name):
                calls.append({"name": name, "arguments": ""})
            case Arguments(index, more):
                calls[index]["arguments"] += more
    return content, calls


@pytest.mark.parametrize("format", ["hermes", "llama3", "mistral"])
def test_forced_calls_are_calls_of_the_tools_with_arguments_that_fit(model: Served, format: ToolFormat) -> None:
    schema_ = call_schema(format, TOOLS, strict=False, parallel=False)
    names: set[str] = set()
    for seed in range(12):
        text, last = ask(model, {"json": schema_}, seed=seed).whole()
        content, calls = read(format, opening(format) + text)
        assert (content.strip(), bool(calls), last.finish_reason) == ("", True, "stop")
        for call in calls:
            parameters = next(t["function"]["parameters"] for t in TOOLS if t["function"]["name"] == call["name"])
            jsonschema.validate(json.loads(call["arguments"]), parameters)
            names.add(call["name"])
    assert names == {"now", "weather"}


@pytest.mark.parametrize("format", ["hermes", "llama3"])
def test_an_answer_is_calls_or_follows_its_format_where_both_may_be(model: Served, format: ToolFormat) -> None:
    answer = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    calls_ = call_schema(format, TOOLS, strict=False, parallel=True)
    both = {"grammar": call_or_answer(format, answer, calls_, parallel=False, parameter="response_format")}
    kinds: set[bool] = set()
    for seed in range(40):
        text, last = ask(model, both, seed=seed, temperature=20).whole()
        assert last.finish_reason == "stop", text
        content, calls = read(format, text)
        if not calls:
            jsonschema.validate(json.loads(content), answer)
        kinds.add(bool(calls))
    assert kinds == {True, False}


def test_a_free_answer_beside_a_constrained_one_is_what_it_is_alone(model: Served) -> None:
    def free() -> Heard:
        heard = Heard()
        wishes = json.dumps({"max_tokens": 40, "temperature": 0, "ignore_eos": True})
        model.engine.submit(model.request("count their lines", wishes, "{}", heard))
        return heard

    alone = free().whole()[0]
    beside = [ask(model, {"regex": "[0-9]{60}"}) for _ in range(3)]
    assert free().whole()[0] == alone
    assert all(re.fullmatch("[0-9]{60}", each.whole()[0]) for each in beside)


def test_a_grammar_wins_over_min_tokens_and_ignored_ends(model: Served) -> None:
    text, last = ask(model, {"choice": ["yes"]}, min_tokens=30, ignore_eos=True).whole()
    assert (text, last.finish_reason) == ("yes", "stop")


def test_a_grammar_that_cannot_be_followed_fails_its_request_alone(model: Served) -> None:
    broken = Heard()
    request = model.request("list", json.dumps({"structured_outputs": {"regex": "[0-9]{50}"}}), "{}", broken)
    assert request.constraint is not None
    request.constraint.matcher.consume_token(model.constrainer.ends[0])  # no digit: in error from here on
    other = ask(model, {"regex": "[0-9]{50}"})
    model.engine.submit(request)
    assert str(broken.whole()[1].error).startswith(
        "invalid request: structured_outputs: the grammar cannot be followed"
    )
    assert re.fullmatch("[0-9]{50}", other.whole()[0])


@pytest.mark.parametrize(
    ("structured", "why"),
    [
        ({"json": {"type": "string", "pattern": "(?=a)b"}}, "look-around"),
        ({"json": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"json": {"minimum": 5, "maximum": 3, "type": "integer"}}, "Unsatisfiable"),
        ({"json": {"enum": ["x" * 70_000]}}, "65536"),
        ({"json": json.loads('{"not":' * 70 + "{}" + "}" * 70)}, "nested"),
        ({"regex": "(a"}, "unclosed"),
        ({"regex": "[^\\s\\S]"}, "no answer fits it$"),
        ({"grammar": "start: start"}, "no answer fits it$"),
        ({"json": {"$ref": "#"}}, "no answer fits it$"),
        ({"choice": []}, "1 to 1000"),
        ({"json": {}, "regex": "a"}, "give one of"),
        ({}, "give one of"),
    ],
)
def test_what_cannot_be_enforced_is_refused_in_words(model: Served, structured: dict[str, Any], why: str) -> None:
    with pytest.raises(BadSampling, match=f"(?s)structured_outputs: .*{why}"):
        ask(model, structured)
