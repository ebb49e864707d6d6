"""What an engine says of itself when asked with the request parameter `status`; it answers however busy it is.

A backend that does not speak it, as vLLM's own, refuses the empty prompt that such a request has.
"""

import json
from dataclasses import dataclass, fields
from typing import Any

STATUS = "status"


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How an engine fares. Times in seconds, rates of all rows together, 0 where nothing was measured yet."""

    steps: int
    """Passes of the model since it was loaded, those that read a piece of a prompt included: it moves while work is done."""
    rows: int
    """Requests that run, those whose prompt is being read included."""
    capacity: int
    """The most that may run."""
    queue: int
    """Requests that wait for a row."""
    oldest_wait: float
    tokens_per_second: float
    prefill_tokens_per_second: float
    queued_tokens: int
    """Tokens of prompts that are not yet read."""
    free_tokens: int
    """For how many more tokens there is memory for keys and values."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A model that Triton calls ready and that its backend still loads, or failed to load."""

    failure: str | None
    """Why it cannot be loaded; None while it is being loaded."""


def read_opening(text: str) -> Opening | None:
    """Returns what a status answer says of a model that is not open, None where it is."""
    try:
        given: Any = json.loads(text)
        return Opening(given["failure"]) if "opening" in given else None
    except (ValueError, KeyError, TypeError):
        return None


def read_status(text: str) -> EngineStatus | None:
    """Returns what a status answer says, None where the text is none."""
    try:
        given: Any = json.loads(text)
        return EngineStatus(**{field.name: given[field.name] for field in fields(EngineStatus)})
    except (ValueError, KeyError, TypeError):
        return None
