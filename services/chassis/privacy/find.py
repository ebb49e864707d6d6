"""Where secrets and personal data stand in a text. Pure."""

import re
from typing import NamedTuple

from services.chassis.privacy.kinds import KINDS, Kind

_WORTH_A_LOOK = re.compile(r"[@\d]|eyJ|://|-----BEGIN|(?i:key|secret|token|pass|pwd|contrase)|[\w-]{20}")
"""A text without any of these holds nothing of KINDS: most texts are read once and no more."""
_DIGITS = frozenset({"IBAN_CODE", "CREDIT_CARD", "US_SSN", "PHONE_NUMBER"})
_MANY_DIGITS = re.compile(r"(?:\d[^\d\n]{0,3}){7}")


class Finding(NamedTuple):
    """A stretch of a text and what it is."""

    start: int
    end: int
    kind: str


def findings(text: str) -> list[Finding]:
    """What a text holds, in its order and without overlaps."""
    if not _WORTH_A_LOOK.search(text):
        return []
    lowered = text.lower()
    many = _MANY_DIGITS.search(text) is not None
    found: list[Finding] = []
    for kind in KINDS:
        if (kind.name not in _DIGITS or many) and (not kind.needs or any(word in lowered for word in kind.needs)):
            found += [each for each in _of(kind, text) if not any(_overlap(each, other) for other in found)]
    return sorted(found)


def _of(kind: Kind, text: str) -> list[Finding]:
    found: list[Finding] = []
    for match in kind.pattern.finditer(text):
        group = 1 if match.re.groups else 0
        counts = len(match[group]) if kind.check is None else kind.check(match[group])
        if counts:
            start, end = match.span(group)
            found.append(Finding(start, end if counts is True else start + int(counts), kind.name))
    return found


def _overlap(one: Finding, other: Finding) -> bool:
    return one.start < other.end and other.start < one.end
