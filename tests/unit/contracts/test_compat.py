"""breaking_changes finds what breaks and lets pass what is additive."""

from typing import Any

import pytest

from contracts.compat import breaking_changes

OLD: dict[str, Any] = {
    "type": "object",
    "required": ["a"],
    "properties": {"a": {"type": "string"}, "b": {"$ref": "#/$defs/B"}, "c": {"anyOf": [{"type": "null"}]}},
    "$defs": {"B": {"type": "integer", "minimum": 1, "enum": [1, 2]}},
}


def changed(**properties: Any) -> dict[str, Any]:
    return {**OLD, "properties": {**OLD["properties"], **properties}}


def test_same_and_additive_changes_pass() -> None:
    assert breaking_changes(OLD, OLD) == []
    assert breaking_changes(OLD, changed(d={"type": "string", "default": "x"})) == []
    assert breaking_changes(OLD, changed(a={"type": "string", "description": "now described"})) == []


@pytest.mark.parametrize(
    ("new", "where"),
    [
        (changed(a={"type": "integer"}), "$.a: type"),
        (changed(a={"type": "string", "pattern": "^x"}), "$.a: pattern"),
        (changed(b={"type": "integer", "minimum": 2, "enum": [1, 2]}), "$.b: minimum tightened"),
        (changed(b={"type": "integer", "enum": [1, 2]}), "$.b: minimum loosened"),
        (changed(b={"type": "integer", "minimum": 1, "enum": [1]}), "$.b: enum"),
        (changed(c={"anyOf": [{"type": "null"}, {"type": "string"}]}), "$.c: anyOf"),
        ({**OLD, "required": ["a", "b"]}, "$.b: newly required"),
        ({**OLD, "required": []}, "$.a: no longer required"),
        ({**OLD, "properties": {"a": {"type": "string"}}}, "$.b: removed"),
    ],
)
def test_breaking_changes_are_found(new: dict[str, Any], where: str) -> None:
    assert any(line.startswith(where) for line in breaking_changes(OLD, new)), breaking_changes(OLD, new)


def test_recursive_schemas_end() -> None:
    tree = {"$ref": "#/$defs/T", "$defs": {"T": {"type": "array", "items": {"$ref": "#/$defs/T"}}}}
    assert breaking_changes(tree, tree) == []
