"""Feedback and the command `noria` on a real broker: a thumb and a correction from the command line to the topic."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer

from services.cli.kafka import lag, run
from tests.conftest import free_port
from tests.integration.service_process import environment, service, until

INFERENCE = "serving.inference.completed.v1"
SIGNAL = "feedback.signal.recorded.v1"
NOW = b"2026-01-31T12:00:00Z"


@dataclass
class Running:
    """A feedback service and the environment to call it in."""

    kafka: str
    port: int
    environment: dict[str, str]

    def noria(self, *arguments: str) -> Any:
        """What `noria ARGUMENTS --json` prints; it must succeed."""
        command = [sys.executable, "-m", "services.cli.app", *arguments, "--json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return (
            [json.loads(line) for line in done.stdout.splitlines()] if "watch" in arguments else json.loads(done.stdout)
        )

    def send(self, value: bytes, **attributes: bytes | None) -> None:
        """A message on the topic of inference events."""
        headers = {"ce_specversion": b"1.0", "ce_source": b"urn:test", "ce_type": f"io.noria.{INFERENCE}".encode()}
        producer = Producer({"bootstrap.servers": self.kafka})
        producer.produce(
            INFERENCE, key=b"k", value=value, headers=list({**headers, "ce_time": NOW, **attributes}.items())
        )
        assert producer.flush(10) == 0


@pytest.fixture
def feedback(kafka: str, tmp_path: Path, database_url: str) -> Iterator[Running]:
    port = free_port()
    with service("feedback", tmp_path, kafka, port, DATABASE=database_url):
        yield Running(kafka, port, environment("feedback", tmp_path, kafka, port))


def inference(request_id: str) -> bytes:
    turns = [{"role": "user", "content": "tar: list an archive"}]
    model = {"name": "shell-copilot", "version": 1}
    body = {"project": "shell-copilot", "request_id": request_id, "model": model, "endpoint": "chat.completions"}
    return json.dumps({**body, "messages": turns, "output": "tar"}).encode()


def test_feedback_waits_for_its_request_and_becomes_signals(feedback: Running, database_url: str) -> None:
    request = f"chatcmpl-{free_port()}-{database_url[:6]}"
    given = feedback.noria("feedback", request, "--thumb", "down", "--correction", "tar -tf a.tar")
    assert given["status"] == "waiting"
    again = feedback.noria("feedback", request, "--thumb", "down", "--correction", "tar -tf a.tar")
    assert again["signals"] == given["signals"]
    feedback.send(inference(request), ce_id=request.encode())
    listed = f"http://127.0.0.1:{feedback.port}/v1/feedback?request_id={request}"

    def recorded() -> Any:
        items = httpx.get(listed).json()["items"]
        return items if {i["status"] for i in items} == {"recorded"} else None

    assert {item["kind"] for item in until("recorded signals", recorded)} == {"thumb", "correction"}

    signals = events(feedback.kafka, request, 2)
    correction = next(s for s in signals if s["kind"] == "correction")
    assert correction["record_id"] == f"feedback-{request}"
    assert correction["record"]["messages"][-1] == {"role": "assistant", "content": "tar -tf a.tar"}
    assert len(signals) == 2
    [watched] = feedback.noria("watch", "feedback.signal.recorded", "--from-beginning", "--count", "1")
    assert (watched["topic"], watched["source"]) == (SIGNAL, "/noria/feedback")


def events(kafka: str, request: str, number: int) -> list[dict[str, Any]]:
    """The signal events of a request, at least `number` of them, read by another client."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": request, "auto.offset.reset": "earliest"})
    consumer.subscribe([SIGNAL])
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        for message in consumer.consume(100, timeout=0.5):
            if message.key() == request.encode():
                found.append(json.loads(message.value() or b""))
        return len(found) >= number

    try:
        until("signal events", enough)
    finally:
        consumer.close()
    return found


def test_lag_is_read_from_committed_offsets(feedback: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_KAFKA_BOOTSTRAP", feedback.kafka)
    feedback.send(inference("lag"), ce_id=uuid.uuid4().bytes.hex().encode())
    assert run(lag("nobody.main", INFERENCE)) > 0
    until("no lag", lambda: run(lag("feedback.main", INFERENCE)) == 0)


def test_dead_letters_are_listed_and_shown(feedback: Running) -> None:
    before = {letter["id"] for letter in feedback.noria("dlq", "list")["items"]}
    feedback.send(b"\xff\xfe", ce_id=b"broken", ce_time=NOW)
    feedback.send(b"{}", ce_id=None)

    def new() -> Any:
        found = [x for x in feedback.noria("dlq", "list")["items"] if x["id"] not in before]
        return found if len(found) == 2 else None

    letters = {letter["reason"]: letter for letter in until("dead letters", new)}
    assert set(letters) == {"not_utf8", "bad_header"}
    assert all(x["topic"] == INFERENCE and x["offset"] >= 0 and x["partition"] >= 0 for x in letters.values())
    shown = feedback.noria("dlq", "show", letters["not_utf8"]["id"])
    assert shown["value"] == {"base64": "//4="}
    assert {"name": "ce_id", "value": "broken"} in shown["headers"]
