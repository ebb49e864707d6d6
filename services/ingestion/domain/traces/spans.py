"""A span, or a group of log events, as plain data, and readers of what attributes hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from contracts.records import RecordInvalid
from contracts.turns import parsed

Attributes = Mapping[str, Any]
MAX_PARTS = 12
"""Dots of an attribute's name that are looked at; the conventions have at most eight."""


@dataclass(frozen=True, slots=True)
class Span:
    """What a trace tells of one operation. Ids are lower-case hex; `events` are (name, attributes) in their order."""

    trace_id: str
    span_id: str
    attributes: Attributes
    resource: Attributes = field(default_factory=dict[str, Any])
    events: tuple[tuple[str, Attributes], ...] = ()
    failed: bool = False
    items: int = 1
    """Spans or log records that it stands for."""
    times: tuple[int, ...] = ()
    """When each of the events was, in nanoseconds since 1970; 0 where nothing says."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model: the turns it was asked with and the answers to choose from, in any form that `conversation` takes."""

    asked: list[Any]
    answers: list[Any]
    tools: Any = None
    model: str | None = None
    places: Sequence[int] | None = None
    """Of the answers among all of the call's, where their events say so."""


def structured(value: Any, at: str) -> Any:
    """An attribute's value; JSON where it is text.

    Raises:
        RecordInvalid: `invalid_field`: it is text and no JSON, as one that was cut off at a limit.
    """
    return parsed(value, at) if isinstance(value, str) else value


def items(value: Any, at: str) -> list[Any]:
    """A list that is an attribute, or its JSON text; [] where it is not given.

    Raises:
        RecordInvalid: `invalid_field`: it is none.
    """
    if value is None or value == "":
        return []
    found = structured(value, at)
    if not isinstance(found, list):
        raise RecordInvalid("invalid_field", f"{at} is no list")
    return cast(list[Any], found)


def nested(attributes: Attributes, prefix: str) -> dict[str, Any]:
    """The attributes below a prefix as a tree: {'a.0.b': 1} is {'0': {'b': 1}} below 'a'.

    Where a name is a value and a prefix at once, the first one counts.
    """
    tree: dict[str, Any] = {}
    for name, value in attributes.items():
        if not name.startswith(f"{prefix}."):
            continue
        *path, last = name[len(prefix) + 1 :].split(".", MAX_PARTS)
        node: Any = tree
        for part in path:
            node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if isinstance(node, dict):
            cast(dict[str, Any], node).setdefault(last, value)
    return tree


def numbered(tree: Any) -> list[Any]:
    """The children of a node by their numbers: attributes come in any order, 10 after 9."""
    if not isinstance(tree, dict):
        return []
    node = cast(dict[str, Any], tree)
    places = sorted((name for name in node if name.isascii() and name.isdigit() and len(name) < 10), key=int)
    return [node[place] for place in places]


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is an object; {} else."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def first(attributes: Attributes, names: tuple[str, ...]) -> str | None:
    """The first of these attributes that is a text with something in it."""
    found = (attributes.get(name) for name in names)
    return next((value for value in found if isinstance(value, str) and value), None)
