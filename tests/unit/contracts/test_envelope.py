"""The Kafka binding takes both modes and refuses what is malformed, each with its reason."""

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.envelope import STRUCTURED, Header, Malformed, decode, encode, new_meta
from contracts.events.upstream import RecordSubmittedV1

DATA: dict[str, Any] = {"project": "p", "record_id": "r", "record": {"text": "hello"}}
HEADERS: list[Header] = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"urn:test"),
    ("ce_type", b"io.noria.upstream.record.submitted.v1"),
    ("ce_time", b"2026-01-31T12:00:00Z"),
    ("content-type", b"application/json"),
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


def with_header(name: str, value: bytes | None) -> list[Header]:
    return [(n, v) for n, v in HEADERS if n != name] + [(name, value)]


def test_binary_mode() -> None:
    received = decode(RecordSubmittedV1, HEADERS, json.dumps(DATA).encode())
    assert (received.meta.source, received.meta.id) == ("urn:test", "1")
    assert received.data.record == {"text": "hello"}


def test_structured_mode() -> None:
    attributes = {name[3:]: value.decode() for name, value in HEADERS if name.startswith("ce_") and value}
    body = json.dumps({**attributes, "data": DATA}).encode()
    received = decode(RecordSubmittedV1, [("content-type", f"{STRUCTURED}; charset=utf-8".encode())], body)
    assert received == decode(RecordSubmittedV1, HEADERS, json.dumps(DATA).encode())


@given(st.text(min_size=1, max_size=50), TEXT, st.dictionaries(TEXT, TEXT, max_size=5))
def test_round_trip(record_id: str, text: str, tags: dict[str, str]) -> None:
    try:
        event = RecordSubmittedV1(project="p", record_id=record_id, tags=tags, record={"text": text})
    except ValueError:
        return
    meta = new_meta(event, "urn:test", "id-1", causationid="c")
    _, value, headers = encode(event, meta)
    received = decode(RecordSubmittedV1, headers, value)
    assert received.data == event
    assert received.meta == meta


def test_foreign_headers_are_let_through_whatever_they_hold() -> None:
    headers = [*HEADERS, ("x-other", b"\xff\xfe"), ("x-null", None)]
    assert decode(RecordSubmittedV1, headers, json.dumps(DATA).encode()).data.project == "p"


def test_additive_fields_are_ignored() -> None:
    assert decode(RecordSubmittedV1, HEADERS, json.dumps({**DATA, "new": 1}).encode()).data.record_id == "r"


@pytest.mark.parametrize(
    ("headers", "value", "reason"),
    [
        ([], b"{}", "missing_attribute"),
        (with_header("ce_id", None), b"{}", "bad_header"),
        (with_header("ce_id", b"\xff"), b"{}", "bad_header"),
        (with_header("ce_id", b""), b"{}", "missing_attribute"),
        (with_header("ce_id", b"x" * 201), b"{}", "bad_header"),
        (with_header("ce_type", b"io.noria.other.v1"), b"{}", "wrong_type"),
        (with_header("ce_specversion", b"0.3"), b"{}", "unsupported"),
        (with_header("ce_time", b"yesterday"), b"{}", "bad_header"),
        (with_header("ce_time", b"9999-01-01T00:00:00Z"), b"{}", "bad_header"),
        (with_header("content-type", b"text/plain"), b"{}", "unsupported"),
        (HEADERS, None, "no_value"),
        (HEADERS, b"x" * 1_000_001, "too_large"),
        (HEADERS, b"{", "not_json"),
        (HEADERS, b"\xff", "not_utf8"),
        (HEADERS, b"[" * 100_000, "too_deep"),
        (HEADERS, b"[]", "invalid_data"),
        (HEADERS, b'{"project": "p"}', "invalid_data"),
        (HEADERS, json.dumps({**DATA, "project": "../etc"}).encode(), "invalid_data"),
        (with_header("content-type", STRUCTURED.encode()), b"[]", "not_json"),
        (with_header("content-type", STRUCTURED.encode()), b"{}", "missing_attribute"),
        (with_header("content-type", STRUCTURED.encode()), b'{"a": NaN}', "not_json"),
    ],
)
def test_malformed(headers: list[Header], value: bytes | None, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(RecordSubmittedV1, headers, value)
    assert caught.value.reason == reason, str(caught.value)


@pytest.mark.parametrize("name", ["id", "source", "subject", "ext"])
def test_half_a_surrogate_pair_is_no_attribute(name: str) -> None:
    attributes = {n[3:]: (v or b"").decode() for n, v in HEADERS if n.startswith("ce_")}
    body = json.dumps({**attributes, name: "\ud800", "data": DATA}).encode()
    with pytest.raises(Malformed) as caught:
        decode(RecordSubmittedV1, [("content-type", STRUCTURED.encode())], body)
    assert caught.value.reason == "bad_header"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.sampled_from(["\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from([*(name for name, _ in HEADERS), "traceparent", "CE_id", "ce_subject", "content-type"]) | TEXT
_FOREIGN = st.lists(st.tuples(_NAMES, st.none() | st.binary(max_size=20) | st.just(STRUCTURED.encode())), max_size=4)
_VALUES = st.binary(max_size=80) | _JSON.map(lambda data: json.dumps(data).encode())
_BODIES = st.dictionaries(
    st.sampled_from(["project", "record_id", "record", "id", "source", "data", "specversion", "type"]), _JSON
).map(lambda part: json.dumps({**DATA, **part}).encode())


@given(_FOREIGN, st.booleans(), st.none() | _VALUES | _BODIES)
def test_decode_raises_malformed_alone_and_what_it_takes_can_be_sent_on(
    foreign: list[Header], ours: bool, value: bytes | None
) -> None:
    refused = None
    try:
        received = decode(RecordSubmittedV1, [*(HEADERS if ours else []), *foreign], value)
    except Malformed as error:
        refused = error
    else:
        _, body, headers = encode(received.data, received.meta)
        assert decode(RecordSubmittedV1, headers, body) == received
    if refused is not None:
        assert refused.reason
        assert str(refused).encode()


ATTRIBUTES = {name[3:]: value.decode() for name, value in HEADERS if name.startswith("ce_") and value}


@pytest.mark.parametrize(
    "content", [None, "application/json", "application/json; charset=utf-8", "application/vnd.acme+json"]
)
@pytest.mark.parametrize("data", [DATA, json.dumps(DATA), None], ids=["object", "text", "base64"])
def test_structured_mode_as_the_sdks_send_it(content: str | None, data: Any) -> None:
    """Python's names the data's content type above the envelope, or none, and may put data in as text or bytes."""
    base64 = {"data_base64": b64encode(json.dumps(DATA).encode()).decode()}
    body = json.dumps({**ATTRIBUTES, **({"data": data} if data else base64)}).encode()
    headers: list[Header] = [("content-type", content.encode())] if content else []
    assert decode(RecordSubmittedV1, headers, body) == decode(RecordSubmittedV1, HEADERS, json.dumps(DATA).encode())


def test_json_under_a_vendors_name_is_json() -> None:
    headers = with_header("content-type", b"application/vnd.acme.record+json; charset=utf-8")
    assert decode(RecordSubmittedV1, headers, json.dumps(DATA).encode()).data.record_id == "r"


def test_a_record_that_speaks_of_specversion_is_no_envelope() -> None:
    data = {**DATA, "record": {"text": "what is specversion?"}}
    assert decode(RecordSubmittedV1, HEADERS, json.dumps(data).encode()).data.record == data["record"]
    with pytest.raises(Malformed) as caught:
        decode(RecordSubmittedV1, [], json.dumps(data).encode())
    assert caught.value.reason == "missing_attribute"


def test_headers_of_the_http_binding_are_named() -> None:
    headers: list[Header] = [(name.replace("ce_", "ce-"), value) for name, value in HEADERS]
    with pytest.raises(Malformed, match="ce-id, ce-source, ce-specversion, ce-time, ce-type are HTTP's") as caught:
        decode(RecordSubmittedV1, headers, json.dumps(DATA).encode())
    assert caught.value.reason == "missing_attribute"


@pytest.mark.parametrize(
    "part", [{}, {"data": 3}, {"data": "no json"}, {"data": "\ud800"}, {"data_base64": "!"}, {"data_base64": "bm8="}]
)
def test_an_envelope_without_data_that_can_be_read(part: Any) -> None:
    with pytest.raises(Malformed) as caught:
        decode(RecordSubmittedV1, [("content-type", STRUCTURED.encode())], json.dumps({**ATTRIBUTES, **part}).encode())
    assert caught.value.reason in ("invalid_data", "not_json")
