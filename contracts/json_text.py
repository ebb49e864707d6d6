"""JSON text as a value, and what is wrong with a message that is none."""

import json
from typing import Any


class Malformed(ValueError):
    """A message that is no valid event; `reason` is a stable word, the message says where and what would be right."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def load_json(value: bytes) -> Any:
    """`value` as JSON.

    Raises:
        Malformed: `not_utf8`, `too_deep` or `not_json`.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise Malformed("not_utf8", f"the value is not UTF-8 at byte {error.start}") from error
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise Malformed("too_deep", "the value is nested too deep") from error
    except ValueError as error:
        raise Malformed("not_json", f"the value is not JSON: {error}"[:300]) from error


def named_project(value: bytes | None) -> str:
    """The project that a message's value names, whatever else is wrong with it; empty where it names none."""
    try:
        project = json.loads(value or b"null").get("project")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return project[:63] if isinstance(project, str) else ""


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
