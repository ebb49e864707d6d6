"""What the sections of a project file are made of. Knows none of them."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

APPLYING = {"applying": True}
"""Validation context of a project that somebody applies now: what is written today is held to what there is today."""

_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
"""Microseconds."""
_DURATION = re.compile(r"^(\d+(?:\.\d+)?(?:e[+-]?\d{1,3})?)(ms|s|m|h|d)$")
"""The exponent stands in what was written before: 2592000 seconds were 2.592e+06s."""
_DURATION_SCHEMA = {"type": "string", "examples": ["20s", "5m", "1.5h", "2d"]}


def parse_duration(raw: Any) -> Any:
    """The timedelta of '20s', '5m', '1.5h', '2d', to the microsecond; numbers are seconds.

    Raises:
        ValueError: for any other text, and for more than a timedelta holds (999999999 days).
    """
    if isinstance(raw, timedelta | int | float) and not isinstance(raw, bool):
        return raw
    match = _DURATION.match(raw.strip()) if isinstance(raw, str) else None
    if match is None:
        raise ValueError("give a duration as 20s, 5m, 1.5h or 2d")
    try:
        return timedelta(microseconds=round(Decimal(match[1]) * _UNITS[match[2]]))
    except ArithmeticError as error:
        raise ValueError("give a duration of at most 999999999 days") from error


def duration_text(value: timedelta) -> str:
    """The duration in seconds as `parse_duration` reads it, exactly: '20s', '2592000s', '0.5s'."""
    microseconds = value // timedelta(microseconds=1)
    whole, rest = divmod(microseconds, 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0") + "s" if rest else f"{whole}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, return_type=str),
    WithJsonSchema(_DURATION_SCHEMA),
]


class Section(BaseModel):
    """Base of the sections: frozen and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
