"""Submitted records as CloudEvents over HTTP: binary, structured and batched, each event once by its identity."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.chassis.context import Context
from services.ingestion.store import SqlStore
from tests.unit.ingestion.test_ingestion_http import client, context, sent

__all__ = ["client", "context"]
DATA: dict[str, Any] = {"project": "p", "record_id": "r", "record": {"instruction": "q", "output": "a"}}
ATTRIBUTES = {"specversion": "1.0", "id": "1 é", "source": "urn:app", "type": "io.noria.upstream.record.submitted.v1"}
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


def post(client: TestClient, body: Any, content: str | None, **headers: str) -> Any:
    named = {"content-type": content} if content else {}
    return client.post("/v1/events", content=json.dumps(body).encode(), headers={**named, **headers})


def envelope(id: str = "1 é", **data: Any) -> dict[str, Any]:
    return {**ATTRIBUTES, "id": id, "data": DATA | data}


def test_every_mode_sends_one_event_on_once(client: TestClient, context: Context[SqlStore]) -> None:
    binary = {f"ce-{name}": value.replace("é", "%C3%A9") for name, value in ATTRIBUTES.items()}
    answers = [
        post(client, DATA, "application/json", **binary),
        post(client, envelope(), STRUCTURED),
        post(client, envelope(), "application/json"),
        post(client, [envelope()], f"{BATCH}; charset=utf-8"),
        post(client, [envelope()], "application/json"),
    ]
    assert [answer.status_code for answer in answers] == [202] * 5
    assert all(answer.json() == answers[0].json() for answer in answers)
    assert [x["record_id"] for x in answers[0].json()["accepted"]] == ["r"]
    events = sent(context)
    assert len({id for id, _ in events}) == 1, "one identity, whatever the mode"
    assert events[0][1]["record"] == DATA["record"]


def test_a_batch_says_what_became_of_each(client: TestClient, context: Context[SqlStore]) -> None:
    batch = [
        envelope("1"),
        envelope("2", record={"question": "?"}),
        {**ATTRIBUTES, "type": "other", "data": DATA},
        envelope("3", project="nobody"),
        envelope("4", record_id="s"),
    ]
    given = post(client, batch, BATCH).json()
    assert [(x["line"], x["record_id"]) for x in given["accepted"]] == [(1, "r"), (5, "s")]
    refused = [(x["line"], x["reason"]) for x in given["refused"]]
    assert refused == [(2, "unknown_format"), (3, "wrong_type"), (4, "unknown_project")]
    assert len({id for id, _ in sent(context)}) == 2


@pytest.mark.parametrize(
    ("body", "content", "status", "code"),
    [
        (DATA, "application/json", 400, "missing_attribute"),
        (DATA, "text/plain", 400, "unsupported"),
        ({**ATTRIBUTES, "data": 1}, STRUCTURED, 400, "invalid_data"),
        ({}, BATCH, 400, "not_json"),
        ([], BATCH, 422, "no_records"),
        ([1, 2], BATCH, 422, "all_refused"),
        (envelope(record={"x": 1}), STRUCTURED, 422, "all_refused"),
        ([1] * 10_001, BATCH, 400, "too_many_events"),
    ],
)
def test_what_is_no_event_is_answered_with_its_reason(
    client: TestClient, context: Context[SqlStore], body: Any, content: str, status: int, code: str
) -> None:
    answer = post(client, body, content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert sent(context) == []
