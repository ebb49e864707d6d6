"""The bytes that a record's digest is made of, and the record in an event."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.events.ingestion import RecordAcceptedV1
from contracts.records import (
    FORMATS,
    Conversation,
    Message,
    PlainText,
    Preference,
    PromptCompletion,
    Record,
    UnpairedPreference,
    canonical_record,
)

TURN = st.builds(Message, role=st.sampled_from(["system", "user", "assistant", "tool"]), content=st.text())
SAID = st.text() | st.lists(TURN, min_size=1, max_size=3).map(tuple)
RECORDS = st.one_of(
    st.builds(Conversation, messages=st.lists(TURN, min_size=1, max_size=3).map(tuple)),
    st.builds(PromptCompletion, prompt=SAID, completion=SAID),
    st.builds(Preference, prompt=SAID, chosen=SAID, rejected=SAID),
    st.builds(UnpairedPreference, prompt=SAID, completion=SAID, label=st.booleans()),
    st.builds(PlainText, text=st.text()),
)


@given(RECORDS)
def test_canonical_bytes_of_a_record_are_its_json_with_sorted_keys(record: Record) -> None:
    """As every digest was made so far: another text would be a new revision of every record."""
    plain = record.model_dump(mode="json")
    assert canonical_record(record) == json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@given(RECORDS)
def test_event_gives_back_the_record_and_its_class(record: Record) -> None:
    name: Any = next(name for name, cls in FORMATS.values() if cls is type(record))
    event = RecordAcceptedV1(project="p", record_id="r", revision=1, format=name, record=record, digest="0" * 64)
    assert RecordAcceptedV1.model_validate_json(event.to_bytes()) == event
