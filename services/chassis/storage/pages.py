"""Keyset pages: {"items": [...], "next": cursor or null}. Knows no table."""

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from services.chassis.http.application import ApiError

T = TypeVar("T")


def page(items: Sequence[T], limit: int, key: Callable[[T], list[Any]]) -> dict[str, Any]:
    """A page of `limit` items out of up to limit + 1 fetched ones; `key` gives an item's place (JSON values)."""
    shown = list(items[:limit])
    return {"items": shown, "next": encode(key(shown[-1])) if len(items) > limit else None}


def encode(place: list[Any]) -> str:
    """An opaque cursor for the place after which the next page begins."""
    return base64.urlsafe_b64encode(json.dumps(place, default=str).encode()).decode().rstrip("=")


def decode(cursor: str | None, *kinds: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """The place of a cursor, each part made by its kind (`moment`, str, int); None without a cursor.

    Raises:
        ApiError: 400 `invalid_cursor` where it is none of ours.
    """
    if not cursor:
        return None
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return tuple(_small(kind(part)) for kind, part in zip(kinds, place, strict=True))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ApiError(400, "invalid_cursor", "`after` is no cursor; give the `next` of an earlier page") from error


def decode_list(cursor: str | None) -> list[Any] | None:
    """The place of a cursor whose parts depend on the first one; texts and numbers alone. Raises as `decode`."""
    if not cursor:
        return None
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(place, list) or not all(type(part) in (str, int) for part in place):
            raise ValueError("no list of texts and numbers")
        return [_small(part) for part in place]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ApiError(400, "invalid_cursor", "`after` is no cursor; give the `next` of an earlier page") from error


def moment(value: Any) -> datetime:
    """The kind of a place's part that is a moment."""
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError("a moment without its zone")
    return found


def _small(value: Any) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a number that no database holds")
    return value
