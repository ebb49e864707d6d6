"""Secrets that a service is given are planted, used and provoked; then all that it wrote and said is searched for them."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer
from sqlalchemy import make_url

from tests.integration.tiny.harness import Harness, until
from tests.secure_broker import SecureBroker, running

SECRETS = {
    "kafka": "planted-kafka-7f3a",
    "database": "planted-database-91bc",
    "store": "planted-store-44de",
    "key": "noria_planted_0c5d2f7e",
}
PATHS = ("/health/live", "/health/ready", "/metrics", "/asyncapi", "/openapi.json", "/parked", "/notes", "/nowhere")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with running(tmp_path_factory.mktemp("certificates"), SECRETS["kafka"]) as broker:
        yield broker


@pytest.fixture
def harness(broker: SecureBroker, database: str, tmp_path: Path) -> Iterator[Harness]:
    url = make_url(database).set(password=SECRETS["database"]).render_as_string(hide_password=False)
    harness = Harness(broker.plain, url, tmp_path, partitions=1)
    own = {"AWS_SECRET_ACCESS_KEY": SECRETS["store"], "OTEL_TRACES_EXPORTER": "console", "NORIA_LOG_LEVEL": "debug"}
    harness.environment.update(broker.settings(SECRETS["kafka"]) | own)
    harness.make_topics()
    yield harness
    harness.stop()


def provoke(harness: Harness) -> None:
    """Good and bad messages, jobs that fail, a refused key: whatever makes a service write."""
    asked = {"authorization": f"Bearer {SECRETS['key']}"}
    harness.send(harness.ping_of(1), harness.ping_of(2, "bug"), harness.ping_of(3, "work", "fails"), (b"p", b"{", []))
    httpx.post(f"http://127.0.0.1:{harness.port}/parked/retry", headers=asked, content=b"\xff{").close()
    until(harness.notes, lambda found: 1 in found)
    harness.read(harness.dead, lambda found: len(found) >= 2, 60)


def topics(kafka: str) -> str:
    """Every key, value and header of every topic."""
    reader = Consumer({"bootstrap.servers": kafka, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"})
    try:
        reader.subscribe([name for name in reader.list_topics(timeout=10).topics if not name.startswith("__")])
        found: list[Any] = []
        until(lambda: reader.consume(500, 1.0), lambda some: bool(some) and (found.extend(some) or True))
        while some := reader.consume(500, 3.0):
            found.extend(some)
    finally:
        reader.close()
    return " ".join(str((m.key(), m.value(), m.headers())) for m in found)


def answers(harness: Harness) -> str:
    headers = {"authorization": f"Bearer {SECRETS['key']}"}
    return " ".join(httpx.get(f"http://127.0.0.1:{harness.port}{path}", headers=headers).text for path in PATHS)


def test_no_secret_is_written_or_told(harness: Harness, broker: SecureBroker) -> None:
    harness.start()
    provoke(harness)
    told = {"answers": answers(harness), "topics": topics(broker.plain)}
    told["processes"] = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    harness.stop()
    away = harness.environment["NORIA_DATABASE"].replace("host=", "host=/nowhere")
    harness.environment["NORIA_DATABASE"] = away
    harness.start(ready=False)
    until(harness.log.read_text, lambda log: "waiting for the database" in log)
    told["log"] = harness.log.read_text()
    assert "handler failed" in told["log"]
    assert "process " in told["log"], "no span was written"
    assert "dlq" in told["topics"] or "noria-reason" in told["topics"]
    for place, said in told.items():
        assert [name for name, secret in SECRETS.items() if secret in said] == [], place
