"""breaking_changes finds what breaks, at any depth, and lets pass what is additive."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from contracts.compat import breaking_changes
from contracts.schema import project_file_schema, schema
from contracts.topics import TOPICS

Schema = dict[str, Any]
PART: Schema = {
    "type": "object",
    "required": ["need"],
    "properties": {
        "need": {"type": "string"},
        "wish": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
        "word": {"enum": ["a", "b"], "type": "string"},
        "text": {"type": "string", "maxLength": 5, "pattern": "^x"},
    },
}
PLACES: dict[str, Callable[[Schema], Schema]] = {
    "top": lambda part: part,
    "field": lambda part: {"type": "object", "properties": {"f": part}},
    "$defs": lambda part: {"type": "object", "properties": {"f": {"$ref": "#/$defs/P"}}, "$defs": {"P": part}},
    "array": lambda part: {"type": "array", "items": part},
    "map": lambda part: {"type": "object", "additionalProperties": part},
    "union": lambda part: {"anyOf": [{"type": "null"}, part]},
    "tuple": lambda part: {"type": "array", "prefixItems": [part]},
    "deep": lambda part: {
        "type": "object",
        "properties": {"f": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/P"}}, {"type": "null"}]}},
        "$defs": {"P": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Q"}}, "Q": part},
    },
    "recursive": lambda part: {
        "$ref": "#/$defs/T",
        "$defs": {"T": {"type": "object", "properties": {"kids": {"items": {"$ref": "#/$defs/T"}}, "part": part}}},
    },
}


def without(word: str) -> Callable[[Schema], None]:
    return lambda part: part.pop(word)


def field(name: str, **words: Any) -> Callable[[Schema], None]:
    return lambda part: part["properties"][name].update(words)


def renamed(part: Schema) -> None:
    part["properties"]["wished"] = part["properties"].pop("wish")


def newly_needed(part: Schema) -> None:
    part["properties"]["new"] = {"type": "string"}
    part["required"] = ["need", "new"]


BREAKING: dict[str, tuple[Callable[[Schema], Any], str]] = {
    "closed": (lambda p: p.update(additionalProperties=False), "closed"),
    "removed": (lambda p: p["properties"].pop("wish"), "wish: removed"),
    "renamed": (renamed, "wish: removed"),
    "required": (lambda p: p.update(required=["need", "wish"]), "wish: newly required"),
    "new and required": (newly_needed, "new: newly required"),
    "no longer required": (lambda p: p.update(required=[]), "need: no longer required"),
    "other type": (field("wish", type="string"), "wish: type was 'integer', is 'string'"),
    "type narrowed": (field("wish", type=["integer"], const=1), "wish: const"),
    "type widened": (field("need", type=["string", "null"]), "need: type"),
    "enum narrowed": (field("word", enum=["a"]), "word: enum"),
    "enum widened": (field("word", enum=["a", "b", "c"]), "word: enum"),
    "minimum tightened": (field("wish", minimum=2), "wish: minimum tightened"),
    "minimum loosened": (field("wish", minimum=0), "wish: minimum loosened"),
    "maximum tightened": (field("wish", maximum=8), "wish: maximum tightened"),
    "length bounded": (field("need", maxLength=3), "need: maxLength tightened"),
    "pattern": (field("text", pattern="^y"), "text: pattern"),
    "new pattern": (field("need", pattern="^y"), "need: pattern"),
    "new format": (field("need", format="uri"), "need: format"),
    "now a reference that differs": (lambda p: p["properties"].update(wish={"type": "number"}), "wish: type"),
    "enum of objects": (field("word", enum=[{"a": 1}, {"a": 2}]), "word: enum"),
    "other keyword": (field("wish", multipleOf=2), "wish: multipleOf"),
    "names of a map bounded": (lambda p: p.update(propertyNames={"pattern": "^x"}), "propertyNames"),
    "values of a map bounded": (
        lambda p: p.update(additionalProperties={"type": "string"}),
        "additionalProperties: type",
    ),
}
ADDITIVE: dict[str, Callable[[Schema], Any]] = {
    "nothing": lambda p: None,
    "optional field": lambda p: p["properties"].update(new={"type": "string", "default": "x"}),
    "optional object": lambda p: p["properties"].update(new={"type": "object", "additionalProperties": False}),
    "described": field("wish", description="now described", title="T", examples=[1]),
    "default": field("wish", default=2),
    "said to be open": lambda p: p.update(additionalProperties=True),
    "order": lambda p: p.update(properties=dict(reversed(p["properties"].items()))),
    "order of an enum": field("word", enum=["b", "a"]),
}


def changed(place: str, change: Callable[[Schema], Any], before: Schema = PART) -> list[str]:
    after = copy.deepcopy(before)
    change(after)
    return breaking_changes(PLACES[place](copy.deepcopy(before)), PLACES[place](after))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", BREAKING)
def test_breaking_change_is_found_at_any_depth(place: str, change: str) -> None:
    how, said = BREAKING[change]
    found = changed(place, how)
    assert any(said in line for line in found), found
    assert all(line.startswith("$") for line in found)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", ADDITIVE)
def test_additive_change_passes_at_any_depth(place: str, change: str) -> None:
    assert changed(place, ADDITIVE[change]) == []


@pytest.mark.parametrize("place", PLACES)
def test_object_may_be_opened_but_a_closed_one_gets_no_field(place: str) -> None:
    shut = {**PART, "additionalProperties": False}
    assert changed(place, without("additionalProperties"), shut) == []
    [found] = changed(place, ADDITIVE["optional field"], shut)
    assert "new: new in an object that was closed" in found


def test_format_is_an_annotation_that_may_be_taken_back() -> None:
    dated = {"properties": {"at": {"type": "string", "format": "duration"}}}
    assert breaking_changes(dated, {"properties": {"at": {"type": "string"}}}) == []
    assert breaking_changes({"properties": {"at": {"type": "string"}}}, dated) != []


def test_true_is_not_one() -> None:
    assert breaking_changes({"enum": [1]}, {"enum": [True]}) == ["$: enum was [1], is [True]"]
    assert breaking_changes({"const": 1}, {"const": True}) == ["$: const was 1, is True"]
    assert breaking_changes({"enum": [{"a": 1}]}, {"enum": [{"a": 1}]}) == []


def test_branch_more_or_less_and_bounds_of_items_are_found() -> None:
    two = {"anyOf": [{"type": "null"}, {"type": "string"}]}
    assert breaking_changes(two, {"anyOf": two["anyOf"][:1]}) == ["$: anyOf had 2 branches, has 1"]
    assert breaking_changes({"type": "array"}, {"type": "array", "items": {"type": "string"}}) != []
    assert breaking_changes({"type": "array", "items": {"type": "string"}}, {"type": "array"}) != []


def test_any_value_is_spelt_in_several_ways() -> None:
    ways: list[Schema] = [
        {"additionalProperties": True},
        {"additionalProperties": {}},
        {"additionalProperties": {"$ref": "#/$defs/J"}, "$defs": {"J": {}}},
        {},
    ]
    assert [breaking_changes(one, other) for one in ways for other in ways] == [[]] * 16


def fields(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every field of every object."""
    if isinstance(body, list):
        return [found for i, part in enumerate(body) for found in fields(part, (*path, i))]
    if not isinstance(body, dict):
        return []
    own = [(*path, "properties", name) for name in body.get("properties", {})]
    return own + [found for name, part in body.items() for found in fields(part, (*path, name))]


@pytest.mark.parametrize("body", [*(schema(t.event) for t in TOPICS), project_file_schema()], ids=lambda b: b["title"])
def test_every_field_of_every_schema_is_missed(body: Schema) -> None:
    """Also where it is reached through references, arrays, maps and unions alone."""
    assert breaking_changes(body, json.loads(json.dumps(body))) == []
    for *parents, name in fields(body):
        less = copy.deepcopy(body)
        place = less
        for part in parents:
            place = place[part]
        del place[name]
        assert any(line.endswith(f".{name}: removed") for line in breaking_changes(body, less)), (parents, name)


def union(*kinds: str, opened: bool) -> Schema:
    branches: list[Schema] = [{"$ref": f"#/$defs/{kind}"} for kind in kinds]
    others: Schema = {"type": "object", "properties": {"kind": {"not": {"enum": list(kinds)}}}, "x-others": True}
    bodies = {kind: {"type": "object", "properties": {"kind": {"const": kind}}} for kind in kinds}
    return {"items": {"oneOf": [*branches, others] if opened else branches}, "$defs": bodies}


def test_an_open_union_takes_further_kinds_and_a_closed_one_does_not() -> None:
    before = union("a", "b", opened=True)
    assert breaking_changes(before, union("a", "b", "c", opened=True)) == []
    assert breaking_changes(union("a", "b", opened=False), before) == []
    [removed] = breaking_changes(before, union("a", opened=True))
    assert removed == "$.items.oneOf: #/$defs/b removed"
    [closed] = breaking_changes(before, union("a", "b", opened=False))
    assert closed.endswith("closed; kinds that come later are refused")
    [late] = breaking_changes(union("a", opened=False), union("a", "b", opened=True))
    assert "new in a union that was closed" in late
    other = union("a", "b", opened=True)
    other["$defs"]["b"]["properties"]["kind"]["const"] = "x"
    assert breaking_changes(before, other)
