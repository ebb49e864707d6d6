"""A project's policy at the door: what is found and replaced, who is in the sample, who agreed, and what is kept of the rest."""

import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session, select

from contracts.envelope import Event, Meta
from contracts.events.ingestion import RecordAcceptedV1, RecordRefusedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.project import Ingest, ProjectSpec
from contracts.records import RecordInvalid
from services.chassis.context import Context
from services.chassis.privacy.find import findings
from services.chassis.privacy.redaction import Redactor
from services.chassis.storage.database import reading, writing
from services.chassis.storage.tables import Outbox
from services.ingestion import handlers
from services.ingestion.domain.policy import Policy, cleaned, is_sampled, judged, policy_of
from services.ingestion.letters import concealed
from services.ingestion.store import SqlStore
from tests.unit.ingestion.pii_corpus import KINDS, corpus, found_in
from tests.unit.ingestion.test_ingestion_http import client, context

__all__ = ["client", "context"]
MAIL, KEY = "ann.smith@example.com", "sk-proj-abcdEFGH1234567890abcd"
SECRETS = (MAIL, KEY)
REDACT, DROP = Policy(pii="redact"), Policy(pii="drop")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def submitted(record: dict[str, Any], **further: Any) -> RecordSubmittedV1:
    return RecordSubmittedV1(project="p", record_id="r", record=record).model_copy(update=further)


def let_in(event: RecordSubmittedV1, policy: Policy) -> Any:
    return judged(cleaned(event, policy), policy)


def test_most_of_each_kind_is_found_and_little_else() -> None:
    """The corpus is of the same hand as the patterns: docs/data.md tells what an independent one showed."""
    hits, alarms, each = Counter[str](), 0, 40
    for example in corpus(3, each):
        found = findings(example.text)
        if example.place is None:
            alarms += bool(found)
        else:
            hits[example.kind] += found_in(example, found)
    assert {kind for kind in KINDS if hits[kind] < 0.98 * each} <= {"PHONE_NUMBER"}
    assert hits["PHONE_NUMBER"] >= 0.8 * each
    assert alarms <= 0.01 * each * len(KINDS)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"{MAIL} and bob@x.org, {MAIL}", "<EMAIL_ADDRESS_1> and <EMAIL_ADDRESS_2>, <EMAIL_ADDRESS_1>"),
        (f"key {KEY}.", "key <API_KEY_1>."),
        (f'{{"to": "{MAIL}", "n": 1}}', '{"to": "<EMAIL_ADDRESS_1>", "n": 1}'),
        ('{"to": "m\\u00fcller@example.com"}', '{"to": "<EMAIL_ADDRESS_1>"}'),
        (
            '{"password": "hunter22", "x": {"API_KEY": "q7w8e9r0t1y2u3i4"}}',
            '{"password": "<PASSWORD_1>", "x": {"API_KEY": "<API_KEY_1>"}}',
        ),
        ('{"a":  "as it was"}', '{"a":  "as it was"}'),
        ("postgres://u:p4ss@db.example.com/x", "<CONNECTION_STRING_1>"),
        ("-----BEGIN PRIVATE KEY-----\nMIIabc\ncut off", "<PRIVATE_KEY_1>"),
        ("<EMAIL_ADDRESS_1> stays", "<EMAIL_ADDRESS_1> stays"),
        ("2024-05-17 at 12:30:45, v1.2.3, 127.0.0.1", "2024-05-17 at 12:30:45, v1.2.3, 127.0.0.1"),
    ],
)
def test_a_value_has_one_placeholder_wherever_it_stands(text: str, redacted: str) -> None:
    assert Redactor().text(text) == redacted


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([MAIL, KEY, "+49 30 901820", "a", " ", ",", '"', "\\", "{", "}", "[", ":", "1"]), max_size=12
    )
)
def test_what_was_redacted_once_changes_no_more(parts: list[str]) -> None:
    once = Redactor().text("".join(parts))
    assert Redactor().text(once) == once
    assert not any(secret in f" {once} " for secret in (f" {MAIL} ", f" {KEY} "))


SECONDS = 20.0
"""Of processor for all hostile texts: one that is read in square time, 100,000 characters each, takes minutes."""


def test_hostile_texts_take_no_long() -> None:
    begun = time.process_time()
    for piece in (
        "a@",
        "1 ",
        "1-",
        ":",
        "a.",
        "-----BEGIN PRIVATE KEY-----",
        "eyJaaaaaaaa.",
        "x://a:",
        "key=",
        "+1",
        "(1",
        "a" * 50 + "@",
    ):
        findings(piece * (100_000 // len(piece)))
    assert time.process_time() - begun < SECONDS


def test_all_of_a_record_is_cleaned_and_what_came_beside_it() -> None:
    call = {"type": "function", "function": {"name": "send", "arguments": json.dumps({"to": MAIL})}}
    turns = [{"role": "user", "content": f"I am {MAIL}"}, {"role": "assistant", "content": KEY, "tool_calls": [call]}]
    event = submitted({"messages": turns, "note": MAIL, KEY: 4111111111111111}, subject=MAIL, tags={MAIL: KEY})
    valid = let_in(event, REDACT)
    said = repr((valid.became, valid.tags, cleaned(event, REDACT)))
    assert not any(secret in said for secret in (*SECRETS, "4111111111111111"))
    assert json.loads(valid.record.messages[1].tool_calls[0].function.arguments) == {"to": "<EMAIL_ADDRESS_1>"}
    assert cleaned(event, REDACT).subject == cleaned(submitted({"text": "x"}, subject=MAIL), REDACT).subject
    again = cleaned(event, REDACT)
    assert cleaned(again, REDACT) == again, "at the door and behind it"


def test_an_address_in_two_parts_is_found_when_they_are_one() -> None:
    parts = [{"type": "text", "text": "ann.smith@"}, {"type": "text", "text": "example.com"}]
    event = submitted({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "ok"}]})
    valid = let_in(event, REDACT)
    assert valid.record.messages[0].content == "<EMAIL_ADDRESS_1>"
    assert valid.became.sent is None
    with pytest.raises(RecordInvalid, match="EMAIL_ADDRESS"):
        let_in(event, DROP)


@pytest.mark.parametrize(
    ("policy", "event", "reason"),
    [
        (DROP, submitted({"text": MAIL}), "holds_pii"),
        (DROP, submitted({"text": "x"}, subject=MAIL), "holds_pii"),
        (REDACT, submitted({"text": "x"}, record_id=MAIL), "holds_pii"),
        (REDACT, submitted({MAIL: "x"}), "unknown_format"),
        (REDACT, submitted({"messages": [{"role": KEY, "content": "x"}]}), "invalid_field"),
        (Policy(require_consent=True), submitted({"text": MAIL}), "no_consent"),
        (Policy(require_consent=True), submitted({"text": MAIL}, tags={"consent": "no"}), "no_consent"),
    ],
)
def test_a_refusal_says_why_and_not_what(policy: Policy, event: RecordSubmittedV1, reason: str) -> None:
    with pytest.raises(RecordInvalid) as error:
        let_in(event, policy)
    assert error.value.code == reason
    assert not any(secret in str(error.value) for secret in SECRETS)


def test_consent_is_a_tag_or_a_column() -> None:
    policy = Policy(require_consent=True)
    assert let_in(submitted({"text": "x"}, tags={"consent": "Yes"}), policy)
    assert let_in(submitted({"prompt": "q", "completion": "a", "consent": True}), policy).tags == {"consent": "true"}


def test_the_sample_is_by_identity_and_as_large_as_it_says() -> None:
    ids = [f"r{n}" for n in range(4000)]
    tenth, half = ({id for id in ids if is_sampled(id, Policy(sample=share))} for share in (0.1, 0.5))
    assert tenth < half
    assert 320 < len(tenth) < 480
    assert 1880 < len(half) < 2120
    assert all(is_sampled(id, Policy()) for id in ids)


def test_a_policy_that_asks_nothing_is_not_written() -> None:
    assert Ingest().model_dump() == {"columns": {}}
    given = Ingest(sample=0.5, pii="drop", require_consent=True)
    assert policy_of(given) == Policy(None, 0.5, "drop", True)
    assert given.model_dump() == {"columns": {}, "sample": 0.5, "pii": "drop", "require_consent": True}
    for wrong in ({"sample": 0}, {"sample": 1.5}, {"pii": "hide"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Ingest.model_validate(wrong)


def define(context: Context[SqlStore], **ingest: Any) -> None:
    spec = ProjectSpec(project="p", base="b", ingest=Ingest(**ingest))
    event = ProjectDefinedV1(project="p", revision="1" * 64, spec=spec, sequence=9)
    with writing(context.engine) as connection, Session(connection) as session:
        list(handlers.on_project_defined(event, Meta("d", "urn:test", "", NOW), SqlStore(session)))
        session.flush()


def handle(context: Context[SqlStore], *events: RecordSubmittedV1) -> list[Event]:
    """What ingestion says of submissions from Kafka."""
    with writing(context.engine) as connection, Session(connection) as session:
        store = SqlStore(session)
        metas = (Meta(str(n), "urn:test", "", NOW) for n in range(len(events)))
        done = [
            out
            for event, meta in zip(events, metas, strict=True)
            for out in handlers.on_record_submitted(event, meta, store)
        ]
        store.flush()
        return done


def test_submissions_from_kafka_are_cleaned_refused_and_sampled(context: Context[SqlStore]) -> None:
    define(context, pii="redact", require_consent=True)
    yes = {"consent": "yes"}
    events = handle(
        context, submitted({"text": MAIL}, tags=yes), submitted({"text": KEY}), submitted({"text": "x"}, record_id=MAIL)
    )
    assert [type(event) for event in events] == [RecordAcceptedV1, RecordRefusedV1, RecordRefusedV1]
    assert not any(secret.encode() in event.to_bytes() for secret in SECRETS for event in events)
    assert [event.reason for event in events if isinstance(event, RecordRefusedV1)] == ["no_consent", "holds_pii"]
    define(context, sample=0.1)
    taken = handle(context, *(submitted({"text": "x"}, record_id=f"r{n}") for n in range(100)))
    counts = context.read_now(lambda store: store.counts("p"))
    assert 0 < len(taken) < 30
    assert counts["not_sampled"] == 100 - len(taken)
    assert counts["refused"] == 2


def test_nothing_hidden_reaches_the_outbox_by_any_door(client: TestClient, context: Context[SqlStore]) -> None:
    define(context, pii="redact")
    rows = [
        {"instruction": f"mail {MAIL}", "output": KEY},
        {"messages": [{"role": MAIL, "content": KEY}]},
        {"record_id": MAIL, "record": {"text": "x"}},
    ]
    body = "\n".join(map(json.dumps, rows))
    answer = client.post("/v1/projects/p/records", content=body, headers={"content-type": "application/x-ndjson"})
    assert [each["reason"] for each in answer.json()["refused"]] == ["invalid_field", "holds_pii"]
    named = {"specversion": "1.0", "id": "1", "source": "urn:x", "type": "io.noria.upstream.record.submitted.v1"}
    event = {**named, "data": {"project": "p", "record_id": "e", "record": {"text": f"{MAIL} {KEY}"}}}
    assert client.post("/v1/events", json=event).status_code == 202
    told = [{"role": "user", "parts": [{"type": "text", "content": MAIL}]}], [{"role": "assistant", "content": KEY}]
    attributes = [
        {"key": f"gen_ai.{n}.messages", "value": {"stringValue": json.dumps(v)}}
        for n, v in zip(("input", "output"), told, strict=True)
    ]
    span = {"traceId": "1" * 32, "spanId": "2" * 16, "attributes": attributes}
    assert (
        client.post("/v1/projects/p/v1/traces", json={"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).json()
        == {}
    )
    with reading(context.engine) as connection, Session(connection) as session:
        sent = [row.value or b"" for row in session.exec(select(Outbox)).all()]
    assert len(sent) == 3
    assert all(b"EMAIL_ADDRESS_1" in value and b"API_KEY_1" in value for value in sent)
    assert not any(secret.encode() in value for secret in SECRETS for value in sent)
    assert not any(secret in answer.text for secret in SECRETS)


LETTERS = (
    json.dumps({"project": "p", "record": MAIL}),
    json.dumps({"data": {"project": "p", "x": KEY}}),
    f'{{"project": "p", {MAIL}',
    f"{KEY}\udcff",
)


@pytest.mark.parametrize("value", LETTERS)
def test_a_dead_letter_keeps_its_message_without_what_is_hidden(value: str, context: Context[SqlStore]) -> None:
    raw = value.encode("utf-8", "surrogateescape")
    assert context.read_now(lambda store: concealed(store, raw)) == raw
    define(context, pii="drop")
    kept = context.read_now(lambda store: concealed(store, raw))
    assert not any(secret.encode() in kept for secret in SECRETS)
    assert b"_1>" in kept
