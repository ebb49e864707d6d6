"""A request's body for the OpenAPI document, from the class that checks it. Knows no route."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel


def request_document(body: type[BaseModel]) -> dict[str, Any]:
    """The `requestBody` of an operation whose function reads the body itself."""
    shown = inlined(body) | {"additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": shown}}}}


def inlined(body: type[BaseModel]) -> dict[str, Any]:
    """A class's JSON schema. Definitions stand where they are used: FastAPI gathers those of its own parameters alone."""
    schema = body.model_json_schema()
    definitions = schema.pop("$defs", {})
    return _inlined(schema, definitions)


def _inlined(value: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inlined(item, definitions) for item in cast(list[Any], value)]
    if not isinstance(value, dict):
        return value
    found = cast(dict[str, Any], value)
    if isinstance(name := found.get("$ref"), str):
        return _inlined(definitions[name.rpartition("/")[2]], definitions)
    return {key: _inlined(item, definitions) for key, item in found.items()}
