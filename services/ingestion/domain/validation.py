"""Whether what was submitted is a record, what it became, and its digests. Knows no earlier revisions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, cast

from contracts.canonical import canonical
from contracts.chat import completion_text, prompt_turns
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import (
    FORMATS,
    Preference,
    Record,
    RecordFormat,
    RecordInvalid,
    canonical_record,
    parse_record,
)
from contracts.shapes import given
from services.ingestion.domain.columns import Columns
from services.ingestion.domain.conversions import convert

MAX_RECORD_BYTES = 900_000
"""Room for the rest of the accepted event within a Kafka message of one megabyte."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A typed record, the shape it came in and what was sent where it was converted, and the tags of its further columns."""

    format: RecordFormat
    record: Record
    shape: str | None = None
    sent: Mapping[str, Any] | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ValidRecord:
    """A valid record. `fingerprint` covers subject and tags too: equal ones make no new revision."""

    became: Conversion
    tags: dict[str, str]
    digest: str
    fingerprint: str

    @property
    def format(self) -> RecordFormat:
        """Its format."""
        return self.became.format

    @property
    def record(self) -> Record:
        """The record in that format."""
        return self.became.record


def validated(submitted: RecordSubmittedV1, columns: Columns | None = None) -> ValidRecord:
    """The typed record of a submission; `columns` are the project's `ingest.columns`.

    Raises:
        RecordInvalid: a reason of `convert` or `parse_record`, `empty` or `too_large`.
    """
    became = valid_record(submitted.record, columns)
    tags = {**became.tags, **submitted.tags} if became.tags else submitted.tags
    content, around = canonical_record(became.record).encode(), canonical([submitted.subject, tags]).encode()
    size = len(content) + len(around) + (_size(became.sent) if became.sent else 0)
    if size > MAX_RECORD_BYTES:
        detail = f"record, subject and tags have {size} bytes; at most {MAX_RECORD_BYTES} are taken"
        raise RecordInvalid("too_large", detail + (", with what was sent" if became.sent else ""))
    if "\x00" in (submitted.subject or ""):
        raise RecordInvalid("invalid_field", "subject holds a NUL character; leave it out")
    hashed = sha256(content)
    digest = hashed.hexdigest()
    hashed.update(b"\n" + around)
    return ValidRecord(became, tags, digest, fingerprint=hashed.hexdigest())


def valid_record(raw: Any, columns: Columns | None = None) -> Conversion:
    """The format and the typed record of any shape; a record with nothing to learn is refused as `empty`.

    Raises:
        RecordInvalid: as `validated`.
    """
    became = _standard(raw) if columns is None else None
    became = became or _converted(raw, columns)
    record = became.record
    said = "".join(turn.content for turn in prompt_turns(record)) if became.shape == "prompt_only" else ""
    if not (said or completion_text(record)).strip():
        raise RecordInvalid("empty", f"record of format {became.format} has no text to learn from: {_wanted(became)}")
    return became


def _standard(raw: Any) -> Conversion | None:
    """A record that is in a standard format already: most are, and they need no second look."""
    if not isinstance(raw, dict) or frozenset(cast(dict[str, Any], raw)) not in FORMATS:
        return None
    try:
        name, record = parse_record(raw)
    except RecordInvalid:
        return None
    if isinstance(record, Preference) and not isinstance(record.chosen, str):
        return None  # its sides may repeat the prompt
    return Conversion(name, record)


def _converted(raw: Any, columns: Columns | None) -> Conversion:
    if not isinstance(raw, dict):
        raise RecordInvalid("not_an_object", f"record is {type(raw).__name__}; give a JSON object")
    row = cast(dict[str, Any], raw)
    became = convert(row, columns)
    name, record = parse_record(became.record)
    _size(row)
    if {**became.tags, **became.record} == given(row):  # nothing is lost, so what was sent need not be kept too
        return Conversion(name, record, tags=became.tags)
    return Conversion(name, record, became.shape, row, became.tags)


def _size(sent: Mapping[str, Any]) -> int:
    """Bytes of what was sent.

    Raises:
        RecordInvalid: `invalid_field`: it holds a number that JSON has no word for, as 1e999 becomes.
    """
    try:
        return len(json.dumps(sent, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
    except ValueError as error:
        if isinstance(error, UnicodeError):
            raise
        raise RecordInvalid("invalid_field", "the record holds a number that no double holds") from error


def _wanted(became: Conversion) -> str:
    return "give a prompt that is not blank" if became.shape == "prompt_only" else _WANTED[became.format]


_WANTED: dict[RecordFormat, str] = {
    "messages": "give an assistant message with content",
    "prompt_completion": "give a completion that is not blank",
    "preference": "give a chosen answer that is not blank",
    "unpaired_preference": "give a completion that is not blank",
    "text": "give a text that is not blank",
}
