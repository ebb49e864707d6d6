"""OTLP over HTTP: both encodings, what is answered, which project, and that a batch that comes again doubles nothing."""

import base64
import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from google.protobuf.json_format import ParseDict
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from contracts.envelope import Malformed
from contracts.events.upstream import RecordSubmittedV1
from services.chassis.context import Context
from services.chassis.http import keys
from services.ingestion import otlp
from services.ingestion.otlp import JSON, PROTOBUF
from services.ingestion.store import SqlStore
from tests.unit.ingestion.test_ingestion_http import client, context, sent

__all__ = ["client", "context"]
OF_PROJECT = "/v1/projects/p/v1/traces"
TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
TURNS: list[Any] = [{"role": "user", "content": "Größe?"}, {"role": "assistant", "content": "XL"}]


def attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def parts(turn: Any) -> dict[str, Any]:
    return {"role": turn["role"], "parts": [{"type": "text", "content": turn["content"]}]}


def span(*turns: Any, id: str = SPAN, **further: Any) -> dict[str, Any]:
    asked, answered = ([parts(turn) for turn in which] for which in (turns[:-1], turns[-1:]))
    told = [
        attribute("gen_ai.operation.name", "chat"),
        attribute("gen_ai.input.messages", json.dumps(asked)),
        attribute("gen_ai.output.messages", json.dumps(answered)),
    ]
    times = {"startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "1544712661000000000", "kind": 3}
    return {"traceId": TRACE, "spanId": id, "name": "chat", **times, "attributes": told, **further}


def request(*spans: Any, **resource: str) -> dict[str, Any]:
    about = {"attributes": [attribute(name.replace("_", "."), value) for name, value in resource.items()]}
    return {"resourceSpans": [{"resource": about, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}]}]}


def protobuf(body: dict[str, Any]) -> bytes:
    """The request in protobuf, whose JSON form has ids in base64."""
    copy = json.loads(json.dumps(body))
    for each in copy["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId"):
            each[name] = base64.b64encode(bytes.fromhex(each[name])).decode()
    return ParseDict(copy, ExportTraceServiceRequest()).SerializeToString()


def post(client: TestClient, body: Any, url: str = OF_PROJECT, media: str = JSON, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(url, content=content, headers={"content-type": media, **named})


def test_both_encodings_are_one_record_and_each_is_answered_in_its_own(
    client: TestClient, context: Context[SqlStore]
) -> None:
    body = request(span(*TURNS))
    in_json = post(client, body)
    packed = post(client, gzip.compress(protobuf(body)), media=PROTOBUF, content_encoding="gzip")
    assert (in_json.status_code, in_json.json(), in_json.headers["content-type"]) == (200, {}, JSON)
    assert (packed.status_code, packed.headers["content-type"]) == (200, PROTOBUF)
    assert ExportTraceServiceResponse.FromString(packed.content) == ExportTraceServiceResponse()
    (first, value), (second, again) = sent(context)
    assert value["record"] == {"messages": TURNS}
    assert (value["project"], value["record_id"]) == ("p", f"otel-{TRACE}-{SPAN}")
    assert (first, value) == (second, again), "the same event: its consumer takes it once"


def test_a_span_that_comes_again_in_another_batch_names_the_same_record(
    client: TestClient, context: Context[SqlStore]
) -> None:
    assert post(client, request(span(*TURNS))).status_code == 200
    assert post(client, request(span(*TURNS, id="0" * 15 + "1"), span(*TURNS))).status_code == 200
    values = [value for _, value in sent(context)]
    assert [value["record_id"][-2:] for value in values] == ["74", "01", "74"]
    assert values[0] == values[2]


def test_spans_that_give_no_record_are_counted_by_reason(client: TestClient, context: Context[SqlStore]) -> None:
    body = request(
        span(*TURNS),
        {"traceId": TRACE, "spanId": SPAN, "name": "GET /", "attributes": [attribute("http.method", "GET")]},
        span(*TURNS, status={"code": 2, "message": "sk-secret"}),
        {"traceId": TRACE, "spanId": SPAN, "attributes": [attribute("gen_ai.operation.name", "chat")]},
        span(*TURNS, id=""),
    )
    partial = post(client, body).json()["partialSuccess"]
    assert partial["rejectedSpans"] == "3"
    assert partial["errorMessage"].startswith("1 failed_call, 1 no_content, 1 no_ids; first: trace ")
    assert "sk-secret" not in partial["errorMessage"]
    in_protobuf = ExportTraceServiceResponse.FromString(post(client, protobuf(body), media=PROTOBUF).content)
    assert in_protobuf.partial_success.rejected_spans == 3
    metrics = context.metrics.registry
    counts = {name: metrics.get_sample_value("noria_ingestion_otlp_total", {"outcome": name}) for name in OUTCOMES}
    assert counts == dict.fromkeys(OUTCOMES, 2.0)


OUTCOMES = ("taken", "ignored", "failed_call", "no_content", "no_ids")


def test_the_project_is_in_the_path_the_header_or_the_resource(client: TestClient, context: Context[SqlStore]) -> None:
    assert post(client, request(span(*TURNS), noria_project="other")).status_code == 200
    assert post(client, request(span(*TURNS)), "/v1/traces", noria_project="p").status_code == 200
    assert post(client, request(span(*TURNS), noria_project="p"), "/v1/traces").status_code == 200
    assert [value["project"] for _, value in sent(context)] == ["p"] * 3
    for body, reason in ((request(span(*TURNS)), "no_project"), (OTHER, "unknown_project")):
        partial = post(client, body, "/v1/traces").json()["partialSuccess"]
        assert (partial["rejectedSpans"], partial["errorMessage"].split(";")[0]) == ("1", f"1 {reason}")
    for answer in (
        post(client, OTHER, "/v1/projects/other/v1/traces"),
        post(client, OTHER, "/v1/traces", noria_project="other"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, 5)


OTHER = request(span(*TURNS), noria_project="other")


def test_a_key_submits_to_its_own_projects_alone(client: TestClient, context: Context[SqlStore]) -> None:
    kept, token = keys.generate(["submit"], ["q"], "", datetime.now(UTC))
    keys.change(context.settings.api_keys_file, lambda known: [*known, kept])
    bearer = {"authorization": f"Bearer {token}"}
    client.app.user_middleware[0].kwargs["guard"].ring = keys.KeyRing(context.settings.api_keys_file)  # type: ignore[attr-defined]
    assert post(client, request(span(*TURNS))).status_code == 401
    assert post(client, request(span(*TURNS)), **bearer).status_code == 403
    assert post(client, request(span(*TURNS)), "/v1/traces", noria_project="p", **bearer).status_code == 403
    partial = post(client, request(span(*TURNS), noria_project="p"), "/v1/traces", **bearer).json()["partialSuccess"]
    assert partial["errorMessage"].startswith("1 forbidden")
    assert sent(context) == []


@pytest.mark.parametrize(
    ("body", "media", "encoding", "status", "reason"),
    [
        (b"{", JSON, "", 400, "not_json"),
        (b"[]", JSON, "", 400, "not_otlp"),
        (b'{"resourceSpans": 1}', JSON, "", 400, "not_otlp"),
        (json.dumps(request(span(*TURNS, id="zz"))).encode(), JSON, "", 400, "not_otlp"),
        (b"\xff\xff", PROTOBUF, "", 400, "not_protobuf"),
        (b"{}", "text/plain", "", 415, "unsupported_type"),
        (b"{}", JSON, "br", 400, "unknown_encoding"),
        (b"{}", JSON, "gzip", 400, "not_gzip"),
        (gzip.compress(b"{}", mtime=0)[:-9], JSON, "gzip", 400, "not_gzip"),
        (gzip.compress(bytes(17 << 20)), PROTOBUF, "gzip", 413, "too_large"),
    ],
)
def test_what_is_no_request_is_refused_in_its_encoding(
    client: TestClient, body: bytes, media: str, encoding: str, status: int, reason: str
) -> None:
    answer = post(client, body, media=media, content_encoding=encoding)
    assert answer.status_code == status
    said = Status.FromString(answer.content).message if media == PROTOBUF else answer.json()["message"]
    assert said.startswith(f"{reason}: ")


def test_a_database_that_is_away_asks_for_another_try(
    client: TestClient, context: Context[SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    async def away(_: Any) -> None:
        raise OperationalError("select", {}, Exception("database is locked"))

    monkeypatch.setattr(context, "read", away)
    answer = post(client, protobuf(request(span(*TURNS))), media=PROTOBUF)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert Status.FromString(answer.content).code == 14


def test_log_events_of_one_call_are_put_together(client: TestClient, context: Context[SqlStore]) -> None:
    def record(name: str, **body: Any) -> dict[str, Any]:
        values = [{"key": k, "value": v} for k, v in body.items()]
        return {"traceId": TRACE, "spanId": SPAN, "eventName": name, "body": {"kvlistValue": {"values": values}}}

    message = [attribute("role", "assistant"), attribute("content", "XL")]
    records = [
        record("gen_ai.user.message", content={"stringValue": "Größe?"}),
        record("gen_ai.choice", index={"intValue": "0"}, message={"kvlistValue": {"values": message}}),
        {"traceId": TRACE, "spanId": "0" * 15 + "2", "body": {"stringValue": "a line of a log"}},
    ]
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    assert post(client, body, "/v1/projects/p/v1/logs").json() == {}
    assert post(client, body, "/v1/logs", noria_project="p").json() == {}
    assert [value["record"] for _, value in sent(context)] == [{"messages": TURNS}], "once"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(span(*TURNS))), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(VALUES, VALUES)
def test_any_json_is_read_or_named(body: Any, within: Any) -> None:
    spans = {"resourceSpans": [{"scopeSpans": body}]}
    for each in (
        body,
        {"resourceSpans": body},
        spans,
        request(within),
        request({**span(*TURNS), "attributes": within}),
    ):
        assert reason("traces", json.dumps(each).encode(), JSON) in {None, "not_otlp", "not_json"}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_named(body: bytes) -> None:
    for signal in otlp.REQUESTS:
        assert reason(signal, body, PROTOBUF) in {None, "not_protobuf"}


def reason(signal: otlp.Signal, body: bytes, media: str) -> str | None:
    try:
        otlp.read(signal, body, media)
    except Malformed as error:
        return error.reason
    return None


def test_events_are_what_every_submission_is(client: TestClient, context: Context[SqlStore]) -> None:
    post(client, request(span(*TURNS)))
    [(_, value)] = sent(context)
    assert RecordSubmittedV1.model_validate(value).tags == {"origin": "trace"}
