"""Texts and JSON values with placeholders for secrets and personal data: <EMAIL_ADDRESS_1>, the same for the same value.

What was redacted once holds nothing more: to redact it again changes nothing.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from services.chassis.privacy.find import Finding, findings

MAX_JSON_TEXT = 1_000_000
"""Characters of a text that may be JSON itself; longer ones are texts."""

ROUNDS = 20
_SAYS_SECRET = re.compile(r"(?i)pass|pwd|key|token|secret|contrase")


class Redactor:
    """Redacts the parts of one record. `kinds` counts what was found, each value once."""

    def __init__(self) -> None:
        self._placeholders: dict[tuple[str, str], str] = {}
        self.kinds: Counter[str] = Counter()

    @property
    def placeholders(self) -> Mapping[tuple[str, str], str]:
        """(kind, value) -> what stands for it."""
        return self._placeholders

    def text(self, text: str) -> str:
        """The text with placeholders; JSON text is redacted inside, so that it stays JSON."""
        if (inner := _json(text)) is not None:
            redacted = self.value(inner)
            return text if redacted == inner else json.dumps(redacted, ensure_ascii=False)
        return self._plain(text)

    def value(self, value: Any) -> Any:
        """A JSON value with placeholders in its texts and keys."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            fields = cast(Mapping[str, Any], value)
            return {self._plain(name): self._named(name, each) for name, each in fields.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in cast(Sequence[Any], value)]
        if isinstance(value, int | float) and not isinstance(value, bool) and (written := _written(value)):
            return value if (redacted := self._plain(written)) == written else redacted
        return value

    def _named(self, name: str, value: Any) -> Any:
        """The value of a field: a word alone is a password where the field is called so."""
        if isinstance(value, str) and _SAYS_SECRET.search(name) and len(name) < 200:
            probe = f"{name}={value}"
            whole = next((f for f in findings(probe) if f.start == len(name) + 1 and f.end == len(probe)), None)
            if whole is not None:
                return self._placeholder(whole.kind, value)
        return self.value(value)

    def _plain(self, text: str) -> str:
        for _ in range(ROUNDS):  # what stands close behind another one may be seen only when that is gone
            found = findings(text)
            if not found:
                return text
            text = self._replaced(text, found)
        return self._placeholder("TEXT", text)  # a row of them without an end

    def _replaced(self, text: str, found: Sequence[Finding]) -> str:
        parts, end = list[str](), 0
        for each in found:
            parts += [text[end : each.start], self._placeholder(each.kind, text[each.start : each.end])]
            end = each.end
        return "".join([*parts, text[end:]])

    def _placeholder(self, kind: str, value: str) -> str:
        known = (kind, value)
        if known not in self._placeholders:
            self.kinds[kind] += 1
            self._placeholders[known] = f"<{kind}_{self.kinds[kind]}>"
        return self._placeholders[known]


def _json(text: str) -> Any:
    """The object or list that a text is, else None."""
    if text[:1] not in "{[" or text.rstrip()[-1:] not in "}]" or len(text) > MAX_JSON_TEXT:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _written(value: float) -> str:
    """A number that may be a card's or a telephone's: its digits; '' for shorter ones."""
    return str(value) if isinstance(value, int) and 10**11 <= value < 10**19 else ""
