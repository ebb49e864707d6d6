"""Whether an old JSON Schema's messages and consumers survive a new one. Pure: two schemas in, findings out.

Both directions matter in a log that is kept: old messages are read by new classes (backward), new messages by old
classes (forward). Under one version both must hold; whatever breaks takes a new event class and topic.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from contracts.canonical import canonical

Schema = dict[str, Any]
OTHERS = "x-others"
"""Marks the branch of a union for kinds that come later: such a union is open, as an object is that takes further fields."""
_BOUNDS = {
    "minimum": 1, "exclusiveMinimum": 1, "minLength": 1, "minItems": 1, "minProperties": 1,
    "maximum": -1, "exclusiveMaximum": -1, "maxLength": -1, "maxItems": -1, "maxProperties": -1,
}  # fmt: skip
_SETS = ("type", "enum")
_UNIONS = ("anyOf", "oneOf", "allOf", "prefixItems")
_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$defs", "$ref", "$comment", "title", "description", "default", "examples", "deprecated", OTHERS}
)
_COMPARED = frozenset({*_BOUNDS, *_SETS, *_UNIONS, "format", "properties", "required", "items", "additionalProperties"})
NOTHING: Schema = {"not": {}}


class SchemaPair(NamedTuple):
    """Two schemas with the documents in which their references point."""

    old: Any
    new: Any
    old_root: Schema
    new_root: Schema

    def at(self, old: Any, new: Any) -> "SchemaPair":
        """Parts of the same documents."""
        return self._replace(old=old, new=new)


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """What in `new` breaks messages or consumers of `old` at any depth, a line each; empty where the change is additive.

    Additive: a new optional field of an open object, a new kind of an open union, an object or union opened, a description,
    a default, a format taken back (an annotation: JSON Schema 2020-12, Validation 7.2.1). Breaking: a field removed or
    renamed, newly required or no longer required; an object or union closed, or a closed one with a new field or kind; a
    type, pattern, bound, enumeration or any other keyword changed.
    """
    return list(_compare(SchemaPair(old, new, old, new), "$", frozenset()))


def _compare(pair: SchemaPair, at: str, seen: frozenset[str]) -> Iterator[str]:
    old, new = (side if isinstance(side, dict) else {} if side else NOTHING for side in pair[:2])
    references = f"{old.get('$ref')}|{new.get('$ref')}"
    if "$ref" in old and references in seen:
        return
    seen = seen | {references}
    here = pair.at(_resolve(old, pair.old_root), _resolve(new, pair.new_root))
    yield from _keywords(here.old, here.new, at)
    yield from _objects(here.old, here.new, at)
    yield from _parts(here, at, seen)


def _keywords(old: Schema, new: Schema, at: str) -> Iterator[str]:
    for word in sorted((old.keys() | new.keys()) - _ANNOTATIONS - _COMPARED):
        if canonical(old.get(word)) != canonical(new.get(word)):
            yield f"{at}: {word} was {old.get(word)!r}, is {new.get(word)!r}"
    if new.get("format") not in (None, old.get("format")):
        yield f"{at}: format was {old.get('format')!r}, is {new['format']!r}"
    for word in _SETS:
        if _set(old.get(word)) != _set(new.get(word)):
            yield f"{at}: {word} was {old.get(word)!r}, is {new.get(word)!r}"
    for word, direction in _BOUNDS.items():
        if old.get(word) != new.get(word):
            verb = "tightened" if _tighter(old.get(word), new.get(word), direction) else "loosened"
            yield f"{at}: {word} {verb} from {old.get(word)!r} to {new.get(word)!r}"


def _set(value: Any) -> frozenset[str] | None:
    """Values as canonical JSON: an enumeration may hold objects, and true is not 1 there."""
    return None if value is None else frozenset(map(canonical, value if isinstance(value, list) else [value]))


def _tighter(before: float | None, after: float | None, direction: int) -> bool:
    return before is None or (after is not None and (after - before) * direction > 0)


def _objects(old: Schema, new: Schema, at: str) -> Iterator[str]:
    """What became of an object's fields and of its openness."""
    before: Schema = old.get("properties", {})
    after: Schema = new.get("properties", {})
    closed, closed_now = (side.get("additionalProperties") is False for side in (old, new))
    if closed_now and not closed:
        yield f"{at}: closed; fields that come later are refused"
    for name in sorted(before.keys() - after.keys()):
        yield f"{at}.{name}: removed"
    for name in sorted(after.keys() - before.keys()) if closed else ():
        yield f"{at}.{name}: new in an object that was closed; consumers of before refuse it"
    required_before, required_after = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(required_after - required_before):
        yield f"{at}.{name}: newly required; messages of before lack it"
    for name in sorted((required_before - required_after) & after.keys()):
        yield f"{at}.{name}: no longer required; consumers of before rely on it"


def _parts(pair: SchemaPair, at: str, seen: frozenset[str]) -> Iterator[str]:
    """The same of fields, items, values of maps, and branches of unions."""
    before: Schema = pair.old.get("properties", {})
    after: Schema = pair.new.get("properties", {})
    for name in sorted(before.keys() & after.keys()):
        yield from _compare(pair.at(before[name], after[name]), f"{at}.{name}", seen)
    for word in ("items", "additionalProperties"):
        if word in pair.old or word in pair.new:
            old, new = pair.old.get(word, True), pair.new.get(word, True)
            if word == "items" or not (old is False or new is False):  # open or closed is told with the fields
                yield from _compare(pair.at(old, new), f"{at}.{word}", seen)
    for word in _UNIONS:
        old, new = pair.old.get(word, []), pair.new.get(word, [])
        if _is_open(old) or _is_open(new):
            yield from _kinds(pair.at(old, new), f"{at}.{word}", seen)
            continue
        if len(old) != len(new):
            yield f"{at}: {word} had {len(old)} branches, has {len(new)}"
            continue
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _compare(pair.at(left, right), f"{at}.{word}[{index}]", seen)


def _is_open(branches: list[Schema]) -> bool:
    return any(branch.get(OTHERS) for branch in branches)


def _kinds(pair: SchemaPair, at: str, seen: frozenset[str]) -> Iterator[str]:
    """What became of the kinds of an open union, which are told apart by the names of their definitions."""
    old, new = ({branch.get("$ref", OTHERS): _without_names(branch) for branch in side} for side in pair[:2])
    if OTHERS not in new:
        yield f"{at}: closed; kinds that come later are refused"
    for name in sorted(old.keys() - new.keys() - {OTHERS}):
        yield f"{at}: {name} removed"
    for name in sorted(new.keys() - old.keys()) if OTHERS not in old else ():
        if name != OTHERS:
            yield f"{at}: {name} is new in a union that was closed; consumers of before refuse it"
    for name in sorted(old.keys() & new.keys()):
        yield from _compare(pair.at(old[name], new[name]), f"{at}.{name}", seen)


def _without_names(branch: Schema) -> Schema:
    """A branch for kinds that come later, without the names of those that are there."""
    if not branch.get(OTHERS):
        return branch
    properties = {name: {k: v for k, v in part.items() if k != "not"} for name, part in branch["properties"].items()}
    return {**branch, "properties": properties}


def _resolve(schema: Schema, root: Schema) -> Schema:
    """`schema` with its local references followed, keywords beside a reference kept."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    target: Any = root
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return _resolve({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, root)
