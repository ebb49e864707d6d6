"""What columns of a row mean by the project's `ingest.columns`, and what becomes of further ones.

Further columns become tags where they are short scalars; others stay behind, in what was sent.
"""

from collections.abc import Mapping
from typing import Any

from contracts.records import RecordInvalid
from contracts.shapes import Row, readings

MAX_TAGS = 50
TAG_NAME, TAG_VALUE = 100, 200
"""Characters of a tag's name and value that a further column may have to become one."""
INDEX_COLUMNS = ("__index_level_", "Unnamed:")
"""What pandas calls the index that it writes."""
IDENTITY = ("record_id", "subject")
"""What a mapping may name beside the columns of a shape."""
Columns = Mapping[str, str]
"""What a column means -> what it is called: the project's `ingest.columns`."""


def rename(row: Row, columns: Columns) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The mapped columns under their meanings, and all others; None where the row has none of those that are needed.

    Raises:
        RecordInvalid: `missing_column`: it has some of them.
    """
    meant = {name: column for name, column in columns.items() if name not in IDENTITY}
    needed = {name for shape in readings(meant.keys()) for name in shape.needs}
    missing = sorted(columns[name] for name in needed if columns[name] not in row)
    if not needed or len(missing) == len(needed):
        return None
    if missing:
        detail = f"the column {missing[0]!r} that ingest.columns names is not given here"
        raise RecordInvalid("missing_column", detail)
    taken = set(columns.values())
    found = {name: row[column] for name, column in meant.items() if column in row}
    return found, {name: value for name, value in row.items() if name not in taken}


def as_tags(rest: Row) -> dict[str, str]:
    """Further columns as tags: scalars with a short text, the first MAX_TAGS of them; not pandas' index."""
    named = {name: _scalar(value) for name, value in rest.items() if _names_a_tag(name)}
    return dict([(name, text) for name, text in named.items() if 0 < len(text) <= TAG_VALUE][:MAX_TAGS])


def _names_a_tag(name: str) -> bool:
    return 0 < len(name) <= TAG_NAME and not name.startswith(INDEX_COLUMNS)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 600:
        return ""  # longer than a tag, and Python writes no integer of 4,300 digits
    return str(value) if isinstance(value, str | int | float) else ""
