"""An item of an upload as the event that submits it. Knows no HTTP and no file format.

An item is a bare record in any shape of docs/data.md, its identity in the column `record_id` where it has one, or an object
with `record` and, where wanted, `record_id`, `subject`, `tags` and `project`.
"""

import json
from typing import Any, cast

from pydantic import ValidationError

from contracts.canonical import digest
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid, canonical_record
from services.chassis.rows.row import FLAWS
from services.ingestion.domain.columns import IDENTITY, Columns
from services.ingestion.domain.policy import LETS_ALL_IN, Policy, cleaned, judged
from services.ingestion.domain.validation import valid_record

_NONE = "-"
"""Stands for an identity that is not given until the record is known that it derives from."""
KEYS = frozenset({"project", "record_id", "subject", "tags", "record"})


def submitted(project: str, item: Any, policy: Policy = LETS_ALL_IN) -> RecordSubmittedV1:
    """The event that submits `item` to `project`, as the project's policy lets it in.

    Without `record_id` the identity is `sha-` and the first 16 digits of the record's digest, so that an upload sent
    twice names the same records.

    Raises:
        RecordInvalid: as `cleaned` and `judged`, or `other_project`.
    """
    fields = _fields(project, item, policy.columns or {})
    try:
        event = cleaned(RecordSubmittedV1.model_validate({"record_id": _NONE, **fields, "project": project}), policy)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordInvalid("invalid_field", f"{where}: {first['msg']}") from error
    if "record_id" not in fields:
        record = valid_record(event.record, policy.columns).record
        event = event.model_copy(update={"record_id": f"sha-{digest(canonical_record(record))[:16]}"})
    judged(event, policy)
    return event


def _fields(project: str, item: Any, columns: Columns) -> dict[str, Any]:
    if isinstance(item, str) and (found := item.partition(": "))[0] in FLAWS:
        raise RecordInvalid(found[0], found[2])
    if not isinstance(item, dict):
        raise RecordInvalid("not_an_object", f"the item is {type(item).__name__}; give a JSON object")
    fields = cast(dict[str, Any], item)
    if "record" not in fields:
        return _bare(fields, columns)
    unknown = sorted(set(map(str, fields)) - KEYS)
    if unknown:
        raise RecordInvalid("invalid_field", f"unknown key {unknown[0]!r}; beside record: {', '.join(sorted(KEYS))}")
    if fields.get("project", project) != project:
        raise RecordInvalid("other_project", f"the item names the project {fields['project']!r}; this is {project!r}")
    present = {key: value for key, value in fields.items() if value is not None}
    unpacked = {key: _unpacked(key, present[key]) for key in ("record", "tags") if key in present}
    return present | unpacked | {key: _text(present[key]) for key in IDENTITY if key in present}


def _bare(row: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """A row with the identity that the project's columns name, where it has that one, else that of its column `record_id`.

    A column `subject` is a tag unless it is named: of exams it holds physics, and no person.
    """
    named = {name: row.get(columns[name]) for name in IDENTITY if name in columns}
    if (
        "record_id" not in columns.values()
        and named.get("record_id") is None
        and row.get("record_id") not in (None, "")
    ):
        named["record_id"] = row["record_id"]
        row = {name: value for name, value in row.items() if name != "record_id"}
    return {"record": row} | {name: _text(value) for name, value in named.items() if value is not None}


def _text(value: Any) -> Any:
    """Numbers are identities too, as tables have them: whole ones, which a column with gaps holds as 17.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _unpacked(key: str, value: Any) -> Any:
    """Parquet files often hold objects as JSON text, and maps as pairs."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RecordInvalid("invalid_field", f"{key} is text but no JSON; give an object") from error
    if key == "tags" and isinstance(value, list):
        pairs = cast(list[Any], value)
        if all(isinstance(pair, list) and len(cast(list[Any], pair)) == 2 for pair in pairs):
            return {str(name): content for name, content in pairs}
    return value
