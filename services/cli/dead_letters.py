"""Dead letters as the console reads them: what they say, which are meant, and what became of them. Sends nothing."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.cli.errors import ConsoleError, Usage

SHORTEST = 4
"""Characters of an id's beginning that are taken for it."""
_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: all that fit every part given. `topic` and `reason` compare whole, times are inclusive."""

    ids: tuple[str, ...] = ()
    topic: str | None = None
    reason: str | None = None
    group: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def anything(self) -> bool:
        """Whether nothing was given."""
        return self == Wanted()

    def fits(self, letter: Mapping[str, Any]) -> bool:
        """Whether the letter is meant, its id aside."""
        for name in ("topic", "reason", "group"):
            if getattr(self, name) not in (None, letter[name]):
                return False
        if self.since is None and self.until is None:
            return True
        at = _time(letter["time"])
        return at is not None and (self.since or at) <= at <= (self.until or at)


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
    parsed = _time(raw)
    if parsed is None:
        raise Usage("bad_time", f"{raw!r} is no time; give RFC 3339, as 2026-01-31T12:00:00Z, or how long ago, as 2h")
    return parsed


def _time(raw: str) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(raw)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def chosen(letters: Iterable[Mapping[str, Any]], wanted: Wanted) -> list[Mapping[str, Any]]:
    """The letters that are meant, oldest first, each once.

    Raises:
        Usage: an id is too short.
        ConsoleError: `unknown_letter`: an id names none, or several.
    """
    distinct = {letter["id"]: letter for letter in letters}
    ids = [_one(id, distinct) for id in wanted.ids] if wanted.ids else list(distinct)
    found = [distinct[id] for id in dict.fromkeys(ids) if wanted.fits(distinct[id])]
    return sorted(found, key=lambda letter: (letter["time"], letter["topic"], letter["partition"], letter["offset"]))


def check_id(id: str) -> None:
    """Raises Usage where it is too short to name a letter."""
    if len(id) < SHORTEST:
        raise Usage("bad_id", f"{id!r} is too short; give at least {SHORTEST} characters of the id")


def _one(id: str, letters: Mapping[str, Any]) -> str:
    check_id(id)
    if id in letters:
        return id
    found = [known for known in letters if known.startswith(id)]
    if len(found) != 1:
        many = f"{len(found)} dead letters begin with {id!r}; give more of the id"
        raise ConsoleError("unknown_letter", many if found else f"there is no dead letter {id!r}; see `noria dlq list`")
    return found[0]


def with_fates(letters: Sequence[Mapping[str, Any]], fates: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The letters with `settled`: {action, by, at, reason}, or None where nothing became of one yet."""
    return [{**letter, "settled": fates.get(letter["id"])} for letter in letters]
