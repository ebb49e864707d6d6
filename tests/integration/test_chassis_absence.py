"""Kafka away: the service says so, waits, and goes on by itself; nothing is lost and nothing doubled."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.integration.tiny.harness import Harness, until


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.stop()


def kafka_detail(harness: Harness) -> str:
    found = harness.get("/health/ready")
    return "" if found is None else found.json()["checks"]["kafka"]["detail"]


def test_service_waits_for_kafka_and_outlives_its_death(broker: Broker, tmp_path: Path) -> None:
    harness = Harness(broker.bootstrap, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    harness.start(ready=False)
    until(lambda: kafka_detail(harness), lambda detail: detail == "waiting for kafka")
    assert (found := harness.get("/health/live")) is not None
    assert found.status_code == 200
    broker.start()
    harness.make_topics()
    until(lambda: harness.get("/health/ready"), lambda r: r is not None and r.status_code == 200, 60)
    harness.send(*(harness.ping_of(n) for n in range(200)))
    until(harness.notes, lambda found: len(found) >= 50, 60)
    broker.kill()
    until(lambda: kafka_detail(harness), lambda detail: "does not answer" in detail, 60)
    begun = harness.log.stat().st_size
    broker.start()
    until(harness.notes, lambda found: len(found) >= 200, 90)
    harness.send(*(harness.ping_of(n) for n in range(200, 300)))
    until(harness.notes, lambda found: len(found) >= 300, 90)
    answers = harness.answers(300, 60)
    assert Counter(number for number, _ in answers.values()) == Counter(range(300))
    assert harness.notes() == sorted(harness.notes())
    assert harness.log.stat().st_size - begun < 50_000, "the absence of Kafka floods the log"
    assert harness.stop() < 10


def test_message_that_kafka_refuses_for_good_does_not_block_the_rest(kafka: str, tmp_path: Path) -> None:
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    harness.make_topics()
    harness.start()
    harness.send(harness.ping_of(1, "boast"), harness.ping_of(2))
    assert set(harness.answers(1).values()) == {(2, "")}
    until(lambda: harness.figure("outbox_failed"), lambda count: count == 1)
    assert harness.figure("outbox_waiting") == 0
    harness.stop()
