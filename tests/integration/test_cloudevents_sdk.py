"""The official SDK's events are read as they are sent, by both bindings and all modes, of its present and former version."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from contracts.envelope import Received, decode
from contracts.events.upstream import RecordSubmittedV1
from services.ingestion.cloud_events import kafka_headers, read_events
from tests.integration import client_environments

SCRIPT = Path(__file__).parent / "clients" / "cloudevents_client.py"
TURNS: list[Any] = [{"role": "user", "content": "Größe?"}, {"role": "assistant", "content": "XL"}]


@pytest.fixture(scope="module")
def sent() -> list[dict[str, Any]]:
    command = [client_environments.python("cloudevents"), SCRIPT]
    done = subprocess.run(command, check=True, timeout=300, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_mode_gives_the_same_event(sent: list[dict[str, Any]]) -> None:
    assert len(sent) == 13
    for each in sent:
        received = read(each)
        assert (received.meta.source, received.meta.id) == ("urn:test", "1 é%"), each["name"]
        assert received.data == RecordSubmittedV1(project="p", record_id="r", record={"messages": TURNS}), each["name"]


def read(each: dict[str, Any]) -> Received[RecordSubmittedV1]:
    body = base64.b64decode(each["body"])
    if each["name"].startswith("kafka"):
        return decode(RecordSubmittedV1, [(name, value.encode()) for name, value in each["headers"].items()], body)
    [found] = read_events(kafka_headers({name.lower(): value for name, value in each["headers"].items()}), body)
    assert isinstance(found, Received), found
    return found


def test_a_batch_of_the_envelopes_is_read_too(sent: list[dict[str, Any]]) -> None:
    """The SDK for Python makes no batches; those of others are arrays of the same envelopes."""
    bodies = [base64.b64decode(each["body"]) for each in sent if each["name"].endswith("structured")]
    batch = b"[" + b",".join(bodies) + b"]"
    found = read_events([("content-type", b"application/cloudevents-batch+json; charset=utf-8")], batch)
    assert len(found) == len(bodies) == 8
    assert all(isinstance(each, Received) and each.data.record_id == "r" for each in found)
