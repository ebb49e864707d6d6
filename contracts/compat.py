"""Whether an old JSON Schema's messages and consumers survive a new one. Pure: two schemas in, findings out.

Both directions matter in a log that is kept: old messages are read by new classes (backward), new messages by old
classes (forward). Under one version both must hold; whatever breaks takes a new event class and topic.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
_BOUNDS = {
    "minimum": 1, "exclusiveMinimum": 1, "minLength": 1, "minItems": 1, "minProperties": 1,
    "maximum": -1, "exclusiveMaximum": -1, "maxLength": -1, "maxItems": -1, "maxProperties": -1,
}  # fmt: skip
_EXACT = ("type", "const", "pattern", "format", "additionalProperties")


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """What in `new` breaks messages or consumers of `old`, a line each; empty where the change is additive.

    Additive: a new optional field, a description, a default. Breaking: a field removed, a field newly required,
    a type, pattern, bound, constant or union changed, an enumeration narrowed or widened.
    """
    return list(_compare(old, new, old, new, "$", frozenset()))


def _compare(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str, seen: frozenset[str]
) -> Iterator[str]:
    pair = f"{old.get('$ref')}|{new.get('$ref')}"
    if "$ref" in old and pair in seen:
        return
    seen = seen | {pair}
    old, new = _resolve(old, old_root), _resolve(new, new_root)
    yield from _keywords(old, new, at)
    yield from _fields(old, new, old_root, new_root, at, seen)
    yield from _unions(old, new, old_root, new_root, at, seen)
    for inner in ("items", "additionalProperties"):
        if isinstance(old.get(inner), dict) and isinstance(new.get(inner), dict):
            yield from _compare(old[inner], new[inner], old_root, new_root, f"{at}.{inner}", seen)


def _keywords(old: Schema, new: Schema, at: str) -> Iterator[str]:
    for word in _EXACT:
        before, after = old.get(word), new.get(word)
        if isinstance(before, dict) and isinstance(after, dict):
            continue
        if before != after:
            yield f"{at}: {word} was {before!r}, is {after!r}"
    before, after = old.get("enum"), new.get("enum")
    if (before is None) != (after is None) or set(before or ()) != set(after or ()):
        yield f"{at}: enum was {before!r}, is {after!r}"
    for word, direction in _BOUNDS.items():
        if old.get(word) != new.get(word):
            verb = "tightened" if _tighter(old.get(word), new.get(word), direction) else "loosened"
            yield f"{at}: {word} {verb} from {old.get(word)!r} to {new.get(word)!r}"


def _tighter(before: float | None, after: float | None, direction: int) -> bool:
    return before is None or (after is not None and (after - before) * direction > 0)


def _fields(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str, seen: frozenset[str]
) -> Iterator[str]:
    before: Schema = old.get("properties", {})
    after: Schema = new.get("properties", {})
    for name in sorted(before.keys() - after.keys()):
        yield f"{at}.{name}: removed"
    required_before, required_after = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(required_after - required_before):
        yield f"{at}.{name}: newly required; messages of before lack it"
    for name in sorted((required_before - required_after) & after.keys()):
        yield f"{at}.{name}: no longer required; consumers of before rely on it"
    for name in sorted(before.keys() & after.keys()):
        yield from _compare(before[name], after[name], old_root, new_root, f"{at}.{name}", seen)


def _unions(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str, seen: frozenset[str]
) -> Iterator[str]:
    for word in ("anyOf", "oneOf", "prefixItems"):
        before: list[Schema] = old.get(word, [])
        after: list[Schema] = new.get(word, [])
        if len(before) != len(after):
            yield f"{at}: {word} had {len(before)} branches, has {len(after)}"
            continue
        for index, (left, right) in enumerate(zip(before, after, strict=True)):
            yield from _compare(left, right, old_root, new_root, f"{at}.{word}[{index}]", seen)


def _resolve(schema: Schema, root: Schema) -> Schema:
    """`schema` with its local reference followed, keywords beside the reference kept."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    target: Any = root
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
