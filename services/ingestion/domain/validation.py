"""Whether what was submitted is a record, and its digests. Knows neither projects nor earlier revisions."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from contracts.canonical import canonical
from contracts.chat import completion_text
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import Record, RecordFormat, RecordInvalid, canonical_record, parse_record

MAX_RECORD_BYTES = 900_000
"""Room for the rest of the accepted event within a Kafka message of one megabyte."""


@dataclass(frozen=True, slots=True)
class ValidRecord:
    """A valid record. `fingerprint` covers subject and tags too: equal ones make no new revision."""

    format: RecordFormat
    record: Record
    digest: str
    fingerprint: str


def validated(submitted: RecordSubmittedV1) -> ValidRecord:
    """The typed record of a submission.

    Raises:
        RecordInvalid: `not_an_object`, `unknown_format`, `invalid_field`, `empty` or `too_large`.
    """
    name, record = valid_record(submitted.record)
    content, around = canonical_record(record).encode(), canonical([submitted.subject, submitted.tags]).encode()
    size = len(content) + len(around)
    if size > MAX_RECORD_BYTES:
        raise RecordInvalid(
            "too_large", f"record, subject and tags have {size} bytes; at most {MAX_RECORD_BYTES} are taken"
        )
    if "\x00" in (submitted.subject or ""):
        raise RecordInvalid("invalid_field", "subject holds a NUL character; leave it out")
    hashed = sha256(content)
    digest = hashed.hexdigest()
    hashed.update(b"\n" + around)
    return ValidRecord(name, record, digest, fingerprint=hashed.hexdigest())


def valid_record(raw: Any) -> tuple[RecordFormat, Record]:
    """The format and the typed record; a record with nothing to learn is refused as `empty`."""
    name, record = parse_record(raw)
    if not completion_text(record).strip():
        raise RecordInvalid("empty", f"record of format {name} has no text to learn from: {_WANTED[name]}")
    return name, record


_WANTED: dict[RecordFormat, str] = {
    "messages": "give an assistant message with content",
    "prompt_completion": "give a completion that is not blank",
    "preference": "give a chosen answer that is not blank",
    "unpaired_preference": "give a completion that is not blank",
    "text": "give a text that is not blank",
}
