"""Checks of an answer: whether it holds, and if not, what was expected and what came. Knows no model and no file."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from contracts.json_text import Malformed, load_json


@dataclass(frozen=True, slots=True)
class Given:
    """An answer as checks see it: its text, its tokens as the gateway counted them (None: it did not), its seconds."""

    text: str
    tokens: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A check that does not hold."""

    check: str
    expected: str
    got: str


Check = Callable[[Given, Any], str | None]
"""What came, where the answer is not as the value wants it; None where it is."""


def contains(given: Given, value: str) -> str | None:
    """The text stands in the answer, letter by letter."""
    return None if value in given.text else given.text


def not_contains(given: Given, value: str) -> str | None:
    """The text does not stand in it."""
    return given.text if value in given.text else None


def equals(given: Given, value: str) -> str | None:
    """The whole answer, white space at its ends aside."""
    return None if given.text.strip() == value.strip() else given.text


def matches(given: Given, value: str) -> str | None:
    """The pattern (RE2) is found somewhere in it; `^` and `$` are the ends of the answer."""
    return None if found(value, given.text) else given.text


def json_schema(given: Given, value: dict[str, Any]) -> str | None:
    """The whole answer is JSON that fits the schema."""
    try:
        answer = load_json(given.text.encode("utf-8", "replace"))
    except Malformed as error:
        return f"{error}: {given.text}"
    fault = next(_validator(json.dumps(value)).iter_errors(answer), None)
    if fault is None:
        return None
    where = "".join(f"[{part!r}]" for part in fault.instance_path)
    return f"{fault.message}{f' at {where}' if where else ''}: {given.text}"


def max_tokens(given: Given, value: int) -> str | None:
    """At most so many tokens."""
    if given.tokens is None:
        return "the model does not tell its tokens"
    return f"{given.tokens} tokens" if given.tokens > value else None


def max_characters(given: Given, value: int) -> str | None:
    """At most so many characters."""
    return f"{len(given.text)} characters" if len(given.text) > value else None


def max_seconds(given: Given, value: float) -> str | None:
    """Answered within so many seconds, waiting for its turn included."""
    return f"{given.seconds:.2f} s" if given.seconds > value else None


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (contains, not_contains, equals, matches, json_schema, max_tokens, max_characters, max_seconds)
}


def failures(checks: list[tuple[str, Any]], given: Given) -> list[Failure]:
    """The checks, name and value, that do not hold."""
    return [
        Failure(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), got)
        for name, value in checks
        if (got := CHECKS[name](given, value)) is not None
    ]


def found(pattern: str, text: str) -> bool:
    """Whether an RE2 pattern is found in a text, in time linear in the text (https://github.com/google/re2, inside pyarrow).

    Raises:
        ValueError: it is no such pattern.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    match: Any = getattr(pc, "match_substring_regex")  # noqa: B009 - pyarrow makes its functions when it is imported
    return bool(match(pa.array([text.encode("utf-8", "replace").decode()]), pattern=pattern)[0].as_py())


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    import jsonschema_rs

    return jsonschema_rs.validator_for(json.loads(schema), pattern_options=jsonschema_rs.RegexOptions(), offline=True)


def schema_fault(schema: dict[str, Any]) -> str | None:
    """Why a JSON schema cannot be used: it is none, has a pattern that RE2 lacks, or refers to elsewhere."""
    import jsonschema_rs

    try:
        _validator(json.dumps(schema))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        return str(error).split("\n\n")[0]
    return None


def pattern_fault(pattern: str) -> str | None:
    """Why a pattern cannot be used."""
    try:
        found(pattern, "")
    except ValueError as error:
        return str(error).removeprefix("Invalid regular expression: ")
    return None
