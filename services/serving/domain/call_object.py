"""A JSON object that may be a call of a tool, read a character at a time, so that its arguments can be given as they come."""

import json
from dataclasses import dataclass, field
from typing import Any, cast

_ARGUMENTS = ("arguments", "parameters")
_KEYS = ("name", "id", "type", *_ARGUMENTS)
"""What an object that is a call may hold."""


@dataclass(slots=True)
class CallObject:
    """One JSON object, read a character at a time. Once `name` is known and the arguments begin it is `begun`."""

    raw: list[str] = field(default_factory=list[str])
    depth: int = 0
    quoted: bool = False
    escaped: bool = False
    string: int = 0
    """Index in `raw` where the last string begins."""
    key: str | None = None
    value: bool = False
    """Whether a value of the outermost object is being read; else a key."""
    name: str | None = None
    begun: bool = False
    given: bool = False
    """Whether the arguments of a call that has begun are being read."""
    inside: bool = False
    """Whether the character just read is part of them."""
    over: bool = False

    @property
    def foreign(self) -> bool:
        """Whether it holds what no call holds, before any call has begun."""
        return not self.begun and self.key is not None and self.key not in _KEYS

    def read(self, char: str) -> None:
        """Takes the next character."""
        self.raw.append(char)
        self.inside = self.given
        if self.quoted:
            self._read_quoted(char)
        elif char == '"':
            self.quoted, self.string = True, len(self.raw) - 1
        elif char in "{[":
            self.depth += 1
            if (
                self.depth == 2
                and char == "{"
                and self.value
                and self.key in _ARGUMENTS
                and self.name
                and not self.begun
            ):
                self.begun = self.given = self.inside = True
        elif char in "}]":
            self.depth -= 1
            self.given = self.given and self.depth > 1
            self.over = self.depth == 0
        elif self.depth == 1 and char in ":,":
            self.value = char == ":"

    def _read_quoted(self, char: str) -> None:
        if self.escaped or char != '"':
            self.escaped = char == "\\" and not self.escaped
            return
        self.quoted = False
        if self.depth == 1:
            text = _json("".join(self.raw[self.string :]))
            if not self.value:
                self.key = text
            elif self.key == "name" and not self.begun:
                self.name = text

    def whole(self) -> tuple[str, str] | None:
        """Name and arguments of an object that is over and had not begun: its arguments came first, as text, or not at all."""
        said = _json("".join(self.raw))
        if not isinstance(said, dict):
            return None
        call = cast(dict[str, Any], said)
        given = next((call[key] for key in _ARGUMENTS if call.get(key) is not None), {})
        arguments = _json(given) if isinstance(given, str) else given
        name = call.get("name")
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        return name, given if isinstance(given, str) else json.dumps(arguments, ensure_ascii=False)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
