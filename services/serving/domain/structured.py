"""What an answer must look like: OpenAI's `response_format` and vLLM's parameters, as vLLM's `structured_outputs`.

It reads them and writes schemas of calls; whether they can be enforced is said by services/serving/triton/grammar_trial.py.
Sources: https://platform.openai.com/docs/guides/structured-outputs,
https://docs.vllm.ai/en/latest/features/structured_outputs.html.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json

from services.lm.tool_format import MARKERS, ToolFormat
from services.serving.domain.errors import Invalid
from services.serving.domain.part import Part

MAX_CALLS = 16
STRUCTURED = ("response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs")
_LENIENT: Mapping[str, Any] = {"lenient": True, "coerce_one_of": True}
"""To llguidance: leave out what it cannot enforce of a schema that need not be kept strictly."""
_WHITESPACE = r"\n?[ \t]{0,40}"


class JsonSchema(Part):
    """A named schema; `strict`: what cannot be enforced is refused. Nothing here reads its description."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    body: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """OpenAI's `response_format`."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Part):
    """VLLM's `structured_outputs`: one of these."""

    json_: dict[str, Any] | str | None = Field(default=None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class Structured(BaseModel):
    """The parameters of a body that say what its answer must look like."""

    response_format: ResponseFormat | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None


def wanted(body: Structured) -> tuple[str, dict[str, Any]] | None:
    """The parameter that was given and what it asks, None where any answer will do.

    Raises:
        Invalid: several were given, or json_schema without a schema.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for name in ("json", "regex", "choice", "grammar"):
        if (value := getattr(body, f"guided_{name}")) is not None:
            found.append((f"guided_{name}", {name: value}))
    if (asked := body.structured_outputs) is not None:
        found.append(("structured_outputs", asked.model_dump(by_alias=True, exclude_none=True)))
    for name, value in found:
        if isinstance(value.get("json"), str):
            value["json"] = _object(name, value["json"])
    if (format := _format(body.response_format)) is not None:
        found.append(("response_format", format))
    if len(found) > 1:
        raise Invalid(f"give one of {found[0][0]} and {found[1][0]}", "invalid_value", found[1][0])
    return found[0] if found else None


def _format(format: ResponseFormat | None) -> dict[str, Any] | None:
    if format is None or format.type == "text":
        return None
    if format.type == "json_object":
        return {"json_object": True}
    where = "response_format.json_schema"
    if format.json_schema is None or format.json_schema.body is None:
        raise Invalid(f"{where}: give a name and a schema", "invalid_value", where)
    schema = format.json_schema.body
    return {"json": schema if format.json_schema.strict else schema | {"x-guidance": dict(_LENIENT)}}


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        schema: Any = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise Invalid(f"{name}: the schema is no JSON: {error}"[:300], "invalid_value", name) from error
    if not isinstance(schema, dict):
        raise Invalid(f"{name}: the schema is no object", "invalid_value", name)
    return cast(dict[str, Any], schema)


def opening(format: ToolFormat) -> str:
    """What stands before a call that a model has to make: it is part of its answer."""
    return {"hermes": f"{MARKERS['hermes']}\n", "llama3": "", "mistral": f"{MARKERS['mistral']} "}[format]


def call_schema(
    format: ToolFormat, tools: Sequence[Mapping[str, Any]], *, strict: bool, parallel: bool
) -> dict[str, Any]:
    """The schema of what follows `opening`: a call of one of the tools, in Mistral's form a list of them."""
    key = "parameters" if format == "llama3" else "arguments"
    calls = [_call(key, tool["function"]["name"], i) for i, tool in enumerate(tools)]
    one: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    whole = one
    if format == "mistral":
        whole = {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_CALLS if parallel else 1}
    places = {str(i): _moved(_closed(tool["function"]["parameters"]), i) for i, tool in enumerate(tools)}
    return whole | {"$defs": places} | ({} if strict else {"x-guidance": dict(_LENIENT)})


def call_or_answer(
    format: ToolFormat, answer: Mapping[str, Any], calls: Mapping[str, Any], parallel: bool, parameter: str
) -> str:
    """A grammar of either calls or an answer that follows a schema, as `parameter` says it.

    Raises:
        Invalid: where calls begin with a token that no grammar can name.
    """
    if format == "mistral":
        said = "this model cannot be held to a format where it may call tools; leave one of the two out"
        raise Invalid(f"{parameter}: {said}", "unsupported_parameter", parameter)
    rules = [f"answer: %json {_spaced(answer)}", f"json_call: %json {_spaced(calls)}"]
    if format == "hermes":
        more = ' ("\\n" call)*' if parallel else ""
        rules += [f"calls: call{more}", r'call: "<tool_call>\n" json_call "\n</tool_call>"']
    else:
        rules += ["calls: json_call"]
    return "\n".join(["%llguidance {}", "start: answer | calls", *rules])


def _spaced(schema: Mapping[str, Any]) -> str:
    options = {**schema.get("x-guidance", {}), "whitespace_pattern": _WHITESPACE}
    return json.dumps({**schema, "x-guidance": options})


def _call(key: str, name: str, place: int) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, key: {"$ref": f"#/$defs/{place}"}},
        "required": ["name", key],
        "additionalProperties": False,
    }


def _closed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments are an object. One with properties has no others unless it says so: a function takes what it names."""
    open_ = {"$ref", "allOf", "anyOf", "oneOf", "patternProperties"} & set(parameters)
    return {"type": "object", **({} if open_ else {"additionalProperties": False}), **parameters}


def _moved(schema: Any, place: int) -> Any:
    """A schema that stands at #/$defs/`place` of another one: its references to itself begin there."""
    if isinstance(schema, list):
        return [_moved(each, place) for each in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, place) for key, value in cast(dict[str, Any], schema).items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = f"#/$defs/{place}{reference[1:]}"
    return moved
