"""Filters of a dataset's rows and drops, as people type them: `tags.tool = tar`, `revision >= 2`, `record ~ "git push"`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Op = Literal["=", "!=", "<", "<=", ">", ">=", "~"]
Kind = Literal["text", "number", "json"]

ROW_FIELDS: Mapping[str, Kind] = {
    "record_id": "text",
    "revision": "number",
    "format": "text",
    "record": "json",
    "digest": "text",
    "prompt_key": "text",
    "subject": "text",
}
DROP_FIELDS: Mapping[str, Kind] = {
    "record_id": "text",
    "format": "text",
    "record": "json",
    "subject": "text",
    "reason": "text",
    "because_of": "text",
}
TAG = "tags."
OPS: Mapping[Kind, tuple[Op, ...]] = {
    "text": ("=", "!=", "<", "<=", ">", ">=", "~"),
    "number": ("=", "!=", "<", "<=", ">", ">="),
    "json": ("~",),
}
MOST = 20
"""Filters at once."""
LONGEST = 1000
"""Characters of one filter."""
_FILTER = re.compile(
    r"\s*([A-Za-z_]+|tags\.(?:\"(?:[^\"\\]|\\.)*\"|[^\s\"=!<>~]+))\s*(!=|<=|>=|=|<|>|~)\s?(.*)", re.DOTALL
)
_ESCAPED = re.compile(r"\\([\"\\])")


class FilterInvalid(ValueError):
    """A filter that cannot be understood; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Filter:
    """`field` op `value`. `~` is "contains", whatever the case; `field` is a column's name, or `tags` where `tag` names one."""

    field: str
    op: Op
    value: str | int
    tag: str | None = None


def parse_all(raw: Iterable[str], fields: Mapping[str, Kind]) -> tuple[Filter, ...]:
    """The filters, all of which must hold. Raises FilterInvalid."""
    found = tuple(parse(text, fields) for text in raw)
    if len(found) > MOST:
        raise FilterInvalid(f"{len(found)} filters are too many; give at most {MOST}")
    return found


def parse(raw: str, fields: Mapping[str, Kind]) -> Filter:
    r"""One filter: a field, an operator, a value up to the end of the text, in double quotes or not.

    Within the quotes \" is a quote and \\ a backslash; any other backslash is itself.

    Raises:
        FilterInvalid: it has another form, names no field, or its operator or value does not suit the field.
    """
    match = _FILTER.fullmatch(raw) if len(raw) <= LONGEST else None
    if match is None:
        raise FilterInvalid(f"{_shown(raw)} is no filter; give FIELD OP VALUE, {_fields(fields)}")
    name, op, value = match[1], match[2], _unquoted(match[3].strip())
    if name.startswith(TAG):
        return _of_tag(_unquoted(name[len(TAG) :]), op, value)
    kind = fields.get(name)
    if kind is None:
        raise FilterInvalid(f"no field {_shown(name)}; give {_fields(fields)}")
    if op not in OPS[kind]:
        raise FilterInvalid(f"{name} is not compared by {op}; give one of {' '.join(OPS[kind])}")
    return Filter(name, op, _number(name, value) if kind == "number" else value)


def _of_tag(tag: str, op: str, value: str) -> Filter:
    if op not in ("=", "!="):
        raise FilterInvalid(f"a tag is not compared by {op}; give = or !=")
    if not tag or tag[0] in ",:}":
        raise FilterInvalid(f"no tag is filtered by the name {_shown(tag)}")
    return Filter("tags", op, value, tag)


def _number(name: str, value: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise FilterInvalid(f"{name} is a whole number, not {_shown(value)}")
    return int(value)


def _unquoted(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if len(value) >= 2 and value[0] == value[-1] == '"' else value


def _shown(raw: str) -> str:
    return repr(raw if len(raw) <= 60 else raw[:57] + "...")


def _fields(fields: Mapping[str, Kind]) -> str:
    return f"FIELD one of {', '.join(fields)}, tags.NAME; OP one of {' '.join(OPS['text'])} (~ contains)"
