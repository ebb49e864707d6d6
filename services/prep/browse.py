"""Looks into a dataset's Parquet files: pages of rows and drops behind filters. Holds a few rows at a time, never a file.

Imported when somebody asks: pyarrow takes half a second and 60 MB.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds

from contracts.canonical import canonical
from services.prep.domain.filters import Filter

ROWS_AT_ONCE = 64
"""A row may be a megabyte."""
MOST_BYTES = 8 << 20
"""Of the records on one page; one row is always on it."""
JSON_COLUMNS = ("record", "tags")
CONTAINS: Any = getattr(pc, "match_substring")  # noqa: B009 - pyarrow makes its functions when it is imported
Place = tuple[Any, ...]
"""The sorting key of the last row of a page."""


def page(
    path: Path,
    order: Sequence[str],
    filters: Iterable[Filter],
    fields: Sequence[str],
    after: Place | None,
    limit: int,
) -> tuple[list[dict[str, Any]], Place | None]:
    """Up to `limit` rows of a file sorted by `order`, behind the place `after`, and the place to go on from, if any is left.

    Place and filters reach the file: of row groups outside nothing is read but their statistics.
    """
    found: list[dict[str, Any]] = []
    last: Place | None = None
    size = 0
    for row in _matching(path, order, filters, fields, after):
        if len(found) == limit or size > MOST_BYTES:
            return found, last
        last = tuple(row[name] for name in order)
        size += sum(len(value) for value in row.values() if isinstance(value, str))
        found.append(shown(row, fields))
    return found, None


def _matching(
    path: Path, order: Sequence[str], filters: Iterable[Filter], fields: Sequence[str], after: Place | None
) -> Iterator[dict[str, Any]]:
    file = ds.dataset(path, format=ds.ParquetFileFormat(pre_buffer=False))
    conditions = [condition(one) for one in filters] + ([behind(order, after)] if after else [])
    there = set(file.schema.names)
    scanner = file.scanner(
        columns=[name for name in dict.fromkeys((*order, *fields)) if name in there],
        filter=reduce(lambda left, right: left & right, conditions) if conditions else None,
        batch_size=ROWS_AT_ONCE,
        batch_readahead=1,
        fragment_readahead=1,
        use_threads=False,
    )
    for batch in scanner.to_batches():
        yield from batch.to_pylist()


def shown(row: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """A row as the API gives it: JSON columns as what they hold, moments as ISO 8601."""
    return {name: _shown(name, row.get(name)) for name in fields if name in row}


def _shown(name: str, value: Any) -> Any:
    if name in JSON_COLUMNS and value is not None:
        return json.loads(value)
    return value.isoformat() if isinstance(value, datetime) else value


def behind(order: Sequence[str], place: Place) -> Any:
    """The condition that a row is sorted behind `place`: of (a, b) > (x, y), a > x or a = x and b > y."""
    first, *rest = order
    later = pc.field(first) > place[0]
    return later | ((pc.field(first) == place[0]) & behind(rest, place[1:])) if rest else later


def condition(one: Filter) -> Any:
    """A filter as an expression of Arrow; a column that is null is neither equal nor unequal to a text, so it is unequal here."""
    if one.tag is not None:
        return _tagged(one.tag, str(one.value), one.op == "=")
    column = pc.field(one.field)
    if one.op == "~":
        text = canonical(one.value)[1:-1] if one.field in JSON_COLUMNS else str(one.value)
        return CONTAINS(column, text, ignore_case=True)
    if one.op == "!=":
        return (column != one.value) | column.is_null()
    return {
        "=": column.__eq__,
        "<": column.__lt__,
        "<=": column.__le__,
        ">": column.__gt__,
        ">=": column.__ge__,
    }[one.op](one.value)


def _tagged(tag: str, value: str, equal: bool) -> Any:
    """Canonical JSON has no blanks, and an unescaped quote only around texts: `{"a":"b"` and `,"a":"b"` are that tag alone."""
    pair = f"{canonical(tag)}:{canonical(value)}"
    tags = pc.field("tags")
    has = CONTAINS(tags, "{" + pair) | CONTAINS(tags, "," + pair)
    return has if equal else ~has
