"""Kafka away: the service says so, waits, and goes on by itself; nothing is lost and nothing doubled."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.integration.tiny.stand import Stand, until


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.stop()


def kafka_detail(stand: Stand) -> str:
    found = stand.get("/health/ready")
    return "" if found is None else found.json()["checks"]["kafka"]["detail"]


def test_service_waits_for_kafka_and_outlives_its_death(broker: Broker, tmp_path: Path) -> None:
    stand = Stand(broker.bootstrap, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    stand.start(ready=False)
    until(lambda: kafka_detail(stand), lambda detail: detail == "waiting for kafka")
    assert (found := stand.get("/health/live")) is not None
    assert found.status_code == 200
    broker.start()
    stand.make_topics()
    until(lambda: stand.get("/health/ready"), lambda r: r is not None and r.status_code == 200, 60)
    stand.send(*(stand.ping_of(n) for n in range(200)))
    until(stand.notes, lambda found: len(found) >= 50, 60)
    broker.kill()
    until(lambda: kafka_detail(stand), lambda detail: "does not answer" in detail, 60)
    begun = stand.log.stat().st_size
    broker.start()
    until(stand.notes, lambda found: len(found) >= 200, 90)
    stand.send(*(stand.ping_of(n) for n in range(200, 300)))
    until(stand.notes, lambda found: len(found) >= 300, 90)
    answers = stand.answers(300, 60)
    assert Counter(number for number, _ in answers.values()) == Counter(range(300))
    assert stand.notes() == sorted(stand.notes())
    assert stand.log.stat().st_size - begun < 50_000, "the absence of Kafka floods the log"
    assert stand.stop() < 10


def test_message_that_kafka_refuses_for_good_does_not_block_the_rest(kafka: str, tmp_path: Path) -> None:
    stand = Stand(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    stand.make_topics()
    stand.start()
    stand.send(stand.ping_of(1, "boast"), stand.ping_of(2))
    assert set(stand.answers(1).values()) == {(2, "")}
    until(lambda: stand.figure("outbox_failed"), lambda count: count == 1)
    assert stand.figure("outbox_waiting") == 0
    stand.stop()
