"""A row of a data file, and what can be wrong with the file.

Unreadable          the file as a whole: `code` is a stable word, the message says what was found and what to do
"""

import json
from datetime import date, time
from decimal import Decimal
from math import isnan
from typing import Any, NamedTuple, cast

MAX_LINE = 4_000_000
"""Bytes of a line: a record of 900,000 may stand there in escapes that are longer than what they mean."""


class Row(NamedTuple):
    """A row: its number in the file (of lines from 1, of tables without the header), its JSON, the share of the file read so far.

    What is no row at all (a line that is too long, a CSV row with too many cells) is a JSON text that says so: see `flaw`.
    """

    number: int
    json: bytes
    share: float


class Unreadable(ValueError):
    """The file cannot be read."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


FLAWS = frozenset({"too_large", "too_deep", "bad_row"})


def flaw(code: str, words: str) -> bytes:
    """What stands for a row that cannot be read: the JSON text 'code: words', the code one of FLAWS."""
    return json.dumps(f"{code}: {words}").encode()


def line(row: dict[str, Any]) -> bytes:
    """A table's row as JSON. Fields without a value are left out: every row of a table has all its fields."""
    return json.dumps(present(row), ensure_ascii=False, default=plain).encode(errors="surrogatepass")


def present(value: Any) -> Any:
    """A value without the fields that are null or no number, at any depth."""
    if isinstance(value, dict):
        fields = cast(dict[str, Any], value)
        return {str(key): present(item) for key, item in fields.items() if not _absent(item)}
    if isinstance(value, list | tuple):
        return [present(item) for item in cast(list[Any], value)]
    return None if _absent(value) else value


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and isnan(value))


def plain(value: Any) -> Any:
    """What JSON has no word for, in one of its own."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        exact = int(value) if abs(value.adjusted()) < 15 else 0  # no exponent makes a number of a billion digits
        return exact if exact == value else float(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)
