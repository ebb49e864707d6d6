"""Dead letters as the console reads them: what they say, and which are meant. Sends nothing."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.cli.errors import Usage

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

SHORTEST = 4
"""Characters of an id's beginning that are taken for it."""
NOTE = "noria-"
"""Prefix of the headers that say why and whence."""
_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which letters: all that fit every part given. `topic`, `reason` and `group` compare whole, times are inclusive."""

    ids: tuple[str, ...] = ()
    topic: str | None = None
    reason: str | None = None
    group: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def anything(self) -> bool:
        """Whether nothing was given."""
        return self == DeadLetterFilter()


def moment(raw: str | None, now: datetime) -> datetime | None:
    """An RFC 3339 time, or how long ago: 30s, 15m, 2h, 7d. None stays None.

    Raises:
        Usage: it is neither.
    """
    if raw is None:
        return None
    if found := _DURATION.fullmatch(raw):
        try:
            return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        except OverflowError as error:
            raise Usage("bad_time", f"{raw!r} is too long ago") from error
    parsed = time_of(raw)
    if parsed is None:
        raise Usage("bad_time", f"{raw!r} is no time; give RFC 3339, as 2026-01-31T12:00:00Z, or how long ago, as 2h")
    return parsed


def time_of(raw: str) -> datetime | None:
    """A letter's time; None where it bears none."""
    try:
        parsed = datetime.fromisoformat(raw)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def check_id(id: str) -> None:
    """Raises Usage where it is too short to name a letter."""
    if len(id) < SHORTEST:
        raise Usage("bad_id", f"{id!r} is too short; give at least {SHORTEST} characters of the id")


def summary(message: "ConsumerRecord[Any, Any]") -> dict[str, Any]:
    """What the chassis noted on a message of a dead-letter topic: all of `dead_letter_document` but its headers and its value."""
    notes = {k[len(NOTE) :]: v.decode("utf-8", "replace") for k, v in message.headers if k.startswith(NOTE) and v}
    return {
        "id": notes.get("id") or f"{message.topic}/{message.partition}/{message.offset}",
        "reason": notes.get("reason", "unknown"),
        "detail": notes.get("detail", ""),
        "topic": notes.get("topic") or message.topic,
        "partition": _number(notes.get("partition")),
        "offset": _number(notes.get("offset")),
        "group": notes.get("group"),
        "time": notes.get("time", ""),
        "bytes": len(message.value or b""),
        "key": _text(message.key),
    }


def dead_letter_document(message: "ConsumerRecord[Any, Any]") -> dict[str, Any]:
    """A message of a dead-letter topic as JSON: what the chassis noted, and the original headers and value."""
    original = [{"name": k, "value": _text(v)} for k, v in message.headers if not k.startswith(NOTE)]
    return {**summary(message), "headers": original, "value": _text(message.value)}


def described(dead_letter: Mapping[str, Any]) -> list[str]:
    """The lines that show a letter to a person."""
    facts = [f"{name}: {value}" for name, value in dead_letter.items() if name not in ("headers", "value")]
    headers = [f"  {header['name']}: {header['value']}" for header in dead_letter["headers"]]
    return [*facts, "headers:", *headers, "value:", str(dead_letter["value"])]


def _text(raw: bytes | None) -> Any:
    """Bytes as JSON: text where they are UTF-8, else {"base64": ...}."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _number(raw: str | None) -> int:
    return int(raw) if raw is not None and raw.isdecimal() else -1
