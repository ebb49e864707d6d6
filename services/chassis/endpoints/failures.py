"""What a failed request says: how long to wait, and the error object of OpenAI's API. Asks nobody."""

import json
import random
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds; an endpoint that wants to be left alone for longer is not asked again for this request."""
MOST_ERROR_BYTES = 65_536
"""Of an error's body so much is read."""


def retry_after(given: str | None, now: datetime) -> float | None:
    """Seconds to wait, of a Retry-After header (RFC 9110, 10.2.3); None where it says nothing."""
    if given is None:
        return None
    try:
        return (
            max(0.0, float(given))
            if given.strip().isdigit()
            else max(0.0, (parsedate_to_datetime(given) - now).total_seconds())
        )
    except (ValueError, TypeError):
        return None


def pause_before(attempt: int) -> float:
    """Seconds to wait before a request is sent once more, after `attempt` tries: doubling, with jitter, at most 10."""
    jittered = FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return min(jittered, LONGEST_PAUSE)


def error_object(body: bytes) -> Mapping[str, Any]:
    """OpenAI's error object of a body, {"error": {"message": ...}}; what is none says nothing."""
    try:
        given: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error: Any = cast(dict[str, Any], given).get("error") if isinstance(given, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return cast(dict[str, Any], error) if isinstance(error, dict) else {}
