import json
from typing import Any

import pytest

from contracts.events.feedback import SignalRecordedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import Conversation, Message, RecordInvalid
from contracts.types import ModelRef
from services.ingestion.domain import signals
from services.ingestion.domain.items import submitted
from services.ingestion.domain.policy import Policy
from services.ingestion.domain.validation import validated

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "tar: list"}, {"role": "assistant", "content": "tar -t"}]
}


def event(record: Any = CHAT, **more: Any) -> RecordSubmittedV1:
    return RecordSubmittedV1(project="p", record_id="r", record=record, **more)


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": "q"}]},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": " \n"}]},
        {"prompt": "q", "completion": "\t"},
        {"prompt": "q", "chosen": "", "rejected": "bad"},
        {"prompt": "q", "completion": "", "label": True},
        {"text": " "},
    ],
)
def test_a_record_with_nothing_to_learn_is_empty(record: Any) -> None:
    with pytest.raises(RecordInvalid) as refused:
        validated(event(record))
    assert refused.value.code == "empty"


def test_formats_are_told_apart() -> None:
    assert validated(event()).format == "messages"
    assert validated(event({"prompt": "q", "completion": "a"})).format == "prompt_completion"


def test_a_record_that_fits_no_message_is_too_large() -> None:
    turns = [{"role": "assistant", "content": "x" * 90_000}] * 11
    with pytest.raises(RecordInvalid) as refused:
        validated(event({"messages": turns}))
    assert refused.value.code == "too_large"


def test_what_was_sent_counts_where_it_is_kept_too() -> None:
    asked, said = "\U0001f600" * 90_000, "\U0001f600" * 40_000  # 520,000 bytes
    assert validated(event({"prompt": asked, "completion": said})).format == "prompt_completion"
    with pytest.raises(RecordInvalid, match="with what was sent") as refused:
        validated(event({"instruction": asked, "output": said}))
    assert refused.value.code == "too_large"


def test_the_digest_is_of_the_record_and_the_fingerprint_of_tags_and_subject_too() -> None:
    plain, tagged, other = validated(event()), validated(event(tags={"a": "b"})), validated(event({"text": "x"}))
    assert plain.digest == tagged.digest != other.digest
    assert len({plain.fingerprint, tagged.fingerprint, validated(event(subject="s")).fingerprint}) == 3
    assert validated(event(dict(reversed(CHAT.items())))).fingerprint == plain.fingerprint


def test_a_bare_record_gets_its_identity_from_its_content() -> None:
    bare = submitted("p", CHAT)
    assert bare.record_id == f"sha-{validated(bare).digest[:16]}"
    assert submitted("p", {"record": CHAT}) == bare
    assert submitted("p", {"record": {"text": "other"}}).record_id != bare.record_id


def test_a_row_that_an_earlier_release_named_by_its_content_is_another_record_of_the_same_content() -> None:
    pair = {"prompt": "q", "completion": "a"}
    now, then = submitted("p", {"record_id": 17, **pair}), submitted("p", {"record": pair, "tags": {"record_id": "17"}})
    assert (now.record_id, then.record_id[:4]) == ("17", "sha-"), "docs/data.md says so"
    assert validated(now).digest == validated(then).digest, "by which the step duplicates finds them"


def test_a_column_record_id_is_a_bare_row_s_identity_and_no_tag() -> None:
    row = {"record_id": "eg-1", "prompt": "q", "completion": "a", "topic": "tar", "subject": "physics"}
    sent = submitted("p", row)
    assert (sent.record_id, sent.subject) == ("eg-1", None)
    assert validated(sent).tags == {"topic": "tar", "subject": "physics"}
    assert [submitted("p", row | {"record_id": given}).record_id for given in (17, 17.0)] == ["17", "17"]
    bare = {name: value for name, value in row.items() if name != "record_id"}
    for absent in (None, ""):
        assert submitted("p", row | {"record_id": absent}).record_id == submitted("p", bare).record_id
    for wrong in (["x"], 1.5, True, "x" * 1000):
        with pytest.raises(RecordInvalid, match="record_id"):
            submitted("p", row | {"record_id": wrong})


def test_the_project_file_says_which_column_is_the_identity() -> None:
    row = {"record_id": "eg-1", "n": "7", "prompt": "q", "completion": "a"}
    named = submitted("p", row, Policy(columns={"record_id": "n"}))
    assert (named.record_id, validated(named, {"record_id": "n"}).tags["record_id"]) == ("7", "eg-1")
    unnamed = {name: value for name, value in row.items() if name != "n"}
    assert submitted("p", unnamed, Policy(columns={"record_id": "n"})).record_id == "eg-1"
    pairs = {"prompt": "record_id", "completion": "completion"}
    other = submitted("p", {"record_id": "q", "completion": "a"}, Policy(columns=pairs))
    assert other.record_id.startswith("sha-")


def test_an_envelope_keeps_identity_subject_and_tags() -> None:
    item: dict[str, Any] = {"project": "p", "record_id": "r1", "subject": "u", "tags": {"tool": "tar"}, "record": CHAT}
    assert submitted("p", item) == RecordSubmittedV1(**item)


def test_objects_as_text_and_maps_as_pairs_are_read_as_parquet_gives_them() -> None:
    item = {"record_id": "r", "record": json.dumps(CHAT), "tags": [["tool", "tar"]]}
    assert submitted("p", item) == event(tags={"tool": "tar"})


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (["x"], "not_an_object"),
        ({"record": CHAT, "record_ids": "1"}, "invalid_field"),
        ({"record": CHAT, "record_id": ""}, "invalid_field"),
        ({"record": CHAT, "tags": {"a": 1}}, "invalid_field"),
        ({"record": "no json"}, "invalid_field"),
        ({"record": CHAT, "project": "q"}, "other_project"),
        ({"record": CHAT, "subject": "a\x00"}, "invalid_field"),
        ({"record": {"x": 1}}, "unknown_format"),
        ({"question": "?"}, "unknown_format"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "invalid_field"),
    ],
)
def test_a_wrong_item_is_refused_with_its_reason(item: Any, reason: str) -> None:
    with pytest.raises(RecordInvalid) as refused:
        submitted("p", item)
    assert refused.value.code == reason


def signal(**more: Any) -> SignalRecordedV1:
    model = ModelRef(name="p", version=1)
    return SignalRecordedV1(project="p", signal_id="s", request_id="q1", model=model, kind="correction", **more)


def test_a_correction_is_submitted_with_its_origin() -> None:
    record = Conversation(messages=(Message(role="user", content="q"), Message(role="assistant", content="a")))
    made = signals.submitted(signal(record=record, record_id="feedback-q1", user="u"))
    assert made is not None
    assert (made.record_id, made.subject) == ("feedback-q1", "u")
    assert made.tags == {"origin": "feedback", "request_id": "q1"}
    assert validated(made).record == record


def test_a_thumb_is_no_record() -> None:
    assert signals.submitted(signal(thumb="up")) is None
