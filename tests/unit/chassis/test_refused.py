"""Events that Kafka refused for good, over a service's own routes, on both databases: listed by pages, resolved once each."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from services.chassis.context import Context
from services.chassis.http import operations
from services.chassis.http.application import install_errors
from services.chassis.messaging import outbox, relay
from services.chassis.messaging.outbox import OUTBOX, pack_headers, unpack_headers
from services.chassis.observability.metrics import Metrics
from services.chassis.settings import Settings
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import reading, writing
from services.chassis.storage.store import ChassisStore

WHY = "MessageSizeTooLargeError: too large"
BODIES = (b'{"project": "shop", "n": 1}', b"\xff", None, b'{"project": 5}')


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def client(engine: Engine, tmp_path: Path, woken: list[str]) -> TestClient:
    """Four refused events, of two topics, behind one that waits; the first is a whole event."""
    with writing(engine) as connection:
        headers = pack_headers([("ce_id", b"e-1")])
        events = [
            ("t" if n % 2 == 0 else "u", b"k", body, headers if n == 0 else "[]") for n, body in enumerate(BODIES)
        ]
        outbox.put(connection, [("t", b"k", b"{}", "[]"), *events], datetime.now(UTC))
        ids = list(connection.execute(select(OUTBOX.c.id).order_by(OUTBOX.c.id)).scalars())
        relay.settle(connection, [], [(id, WHY) for id in ids[1:]])
    settings = Settings(home=tmp_path)
    context = Context(settings, engine, ChassisStore, open_store(settings), Metrics("tiny"))
    context.connect(lambda: woken.append("relay"), lambda: woken.append("workers"))
    app = FastAPI()
    install_errors(app)
    app.include_router(operations.make_router(context, lambda: None))
    return TestClient(app)


def listed(client: TestClient, **params: Any) -> list[dict[str, Any]]:
    return client.get("/outbox/refused", params=params).json()["items"]


def resolve(client: TestClient, verb: str, numbers: list[int]) -> list[int]:
    body = {"numbers": numbers, "by": "ada", "reason": "limit raised"}
    return client.post(f"/outbox/{verb}", json=body).raise_for_status().json()["resolved"]


def stored(engine: Engine) -> dict[str, list[Any]]:
    with reading(engine) as connection:
        rows = connection.execute(select(OUTBOX).order_by(OUTBOX.c.id)).all()
    return {status: [row for row in rows if row.status == status] for status in ("pending", "failed")}


def audit(engine: Engine) -> list[dict[str, Any]]:
    rows = [row for row in stored(engine)["pending"] if row.topic == "console.outbox.settled.v1"]
    assert len({dict(unpack_headers(row.headers))["ce_id"] for row in rows}) == len(rows)
    return [json.loads(row.value) for row in rows]


def test_refused_events_are_listed_by_pages_with_what_kafka_said(client: TestClient) -> None:
    first = client.get("/outbox/refused?limit=3").json()
    second = client.get("/outbox/refused", params={"limit": 3, "after": first["next"]}).json()
    found = first["items"] + second["items"]
    assert second["next"] is None
    assert [(row["topic"], row["key"], row["event"], row["bytes"], row["reason"]) for row in found] == [
        ("t", "k", "e-1", 27, WHY), ("u", "k", "", 1, WHY), ("t", "k", "", 0, WHY), ("u", "k", "", 14, WHY),
    ]  # fmt: skip
    assert [row["number"] for row in listed(client, topic="u")] == [found[1]["number"], found[3]["number"]]


def test_a_retried_event_is_published_as_it_was_and_once(client: TestClient, engine: Engine, woken: list[str]) -> None:
    one, *others = [row["number"] for row in listed(client)]
    assert resolve(client, "retry", [one]) == [one]
    assert woken == ["relay"]
    assert resolve(client, "retry", [one, others[0]]) == [others[0]], "who comes second resolves nothing"
    assert [row["number"] for row in listed(client)] == others[1:]
    with writing(engine) as connection:
        rows = {row.id: row for row in relay.pending(connection, 10, ())}
    assert (rows[one].value, rows[one].topic, rows[one].key) == (BODIES[0], "t", b"k")
    with writing(engine) as connection:
        relay.settle(connection, [], [(one, WHY)])
    assert resolve(client, "retry", [one]) == [one], "what is refused again can be retried again"
    assert len(audit(engine)) == 3


def test_a_discarded_event_is_gone_and_what_it_was_is_told(client: TestClient, engine: Engine) -> None:
    numbers = [row["number"] for row in listed(client)]
    waits = stored(engine)["pending"][0].id
    assert resolve(client, "discard", [waits, *numbers, 4711]) == numbers, "what waits for Kafka is not refused"
    assert listed(client) == stored(engine)["failed"] == []
    assert stored(engine)["pending"][0].id == waits
    told = audit(engine)
    assert told[0] == {
        "project": "shop", "service": "noria", "number": numbers[0], "action": "discarded", "by": "ada",
        "reason": "limit raised", "topic": "t", "event_key": "k", "event": "e-1", "refusal": WHY,
    }  # fmt: skip
    assert [entry["project"] for entry in told] == ["shop", "", "", ""]


@pytest.mark.parametrize("body", [{"numbers": [], "by": "a"}, {"numbers": [1]}, {"numbers": [2**63], "by": "a"}])
def test_a_resolution_without_numbers_or_a_name_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/outbox/discard", json=body).json()["error"]["code"] == "invalid_request"
    assert len(listed(client)) == 4
