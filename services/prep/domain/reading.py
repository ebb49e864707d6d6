"""An accepted record as a row: as it was sent, with its prompt, completion, keys of comparison and split. Drops nothing."""

import json
from collections.abc import Container

from contracts.canonical import canonical, digest
from contracts.chat import completion_text, prompt_turns, said
from contracts.project import Prep
from contracts.records import FORMATS, PlainText, Preference, Record, UnpairedPreference, kind, turns
from services.prep.domain import normalise
from services.prep.domain.rows import Accepted, Row
from services.prep.domain.splits import prompt_key, split_of

_CLASSES: dict[str, type[Record]] = dict(FORMATS.values())


def row(accepted: Accepted, prep: Prep, trained: Container[str] = ()) -> Row:
    """The row of an accepted record; for `trained` see `split_of`.

    Raises:
        KeyError, pydantic.ValidationError: its format is none of contracts/records.py, which ingestion let none pass.
    """
    content = json.loads(accepted.record)
    record = _CLASSES[accepted.format].model_validate(content)
    prompt, completion = prompt_text(record), completion_text(record)
    words = normalise.words(normalise.text(prompt) or completion)
    key = prompt_key(words)
    text = canonical(content)
    return Row(
        record_id=accepted.record_id,
        revision=accepted.revision,
        format=accepted.format,
        kind=kind(record),
        record=text,
        digest=digest(text),
        content=content_key(record, completion),
        prompt_key=key,
        split=split_of(key, prep, trained),
        words=words,
        prompt=prompt,
        completion=completion,
        tags=accepted.tags,
        subject=accepted.subject,
    )


def prompt_text(record: Record) -> str:
    """The turns before the completion. System turns, which many records share, count only where they stand alone."""
    before = prompt_turns(record)
    asked = [said(turn) for turn in before if turn.role != "system"]
    return "\n".join(asked or [turn.content for turn in before])


def content_key(record: Record, completion: str) -> str:
    """Digest of what is learnt, by normalised copies: the turns, the completion, and what its kind adds."""
    extra: list[object] = []
    if isinstance(record, UnpairedPreference):
        extra = [record.label, *([step.label for step in record.steps] if record.steps else [])]
    elif isinstance(record, Preference):
        extra = [[said(turn) for turn in turns(record.rejected, "assistant")]]
    if not isinstance(record, PlainText) and record.tools:
        extra.append(record.tools)
    before = [[turn.role, said(turn)] for turn in prompt_turns(record)]
    return digest(canonical(normalise.texts([before, completion, *extra])))
