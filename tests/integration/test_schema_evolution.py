"""A schema's whole life on one event and a real broker: a revision, a breaking version beside the old one, its end."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from confluent_kafka import Producer

from contracts.compat import breaking_changes
from contracts.envelope import Event, decode, encode, new_meta
from services.chassis.messaging.kafka.topics import make_topics
from services.chassis.messaging.outbox import emitted, unpack_headers
from services.cli import groups
from tests.integration.tiny.evolving import WeighedV1, WeighedV1Revised, WeighedV2
from tests.integration.tiny.harness import Harness, until

Versions = Sequence[Event]


class Consumer(Harness):
    """A service of its own group that reads one version of the fact."""

    def read_version(self, version: str) -> "Consumer":
        self.environment |= {"EVOLVE": version, "PRODUCER": "evolving"}
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "tests.integration.tiny.evolving"]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        until(lambda: self.get("/health/ready"), lambda r: r is not None and r.status_code == 200)
        return self

    def texts(self) -> list[tuple[int, str]]:
        found = self.get("/notes")
        return [(number, text) for number, text in found.json()] if found is not None else []


@pytest.fixture
def consumers(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Consumer]]:
    monkeypatch.setenv("NORIA_KAFKA_BOOTSTRAP", kafka)
    topics = [NewTopic(event.TOPIC, 2, 1) for event in (WeighedV1, WeighedV2)]
    asyncio.run(make_topics(kafka, topics))
    found: list[Consumer] = []
    for name in ("stays", "moves", "new"):
        home = tmp_path / name
        home.mkdir()
        found.append(Consumer(kafka, f"sqlite:///{home / 'state.db'}", home))
    yield found
    for consumer in found:
        consumer.stop()


def both(number: int) -> Versions:
    return [
        WeighedV1Revised(project="p", number=number, weight=f"{number} g", scale="s"),
        WeighedV2(project="p", number=number, grams=number, scale="s"),
    ]


def produce(kafka: str, facts: Sequence[tuple[int, Versions]]) -> None:
    """Sends facts as the chassis' relay does: every version of a fact is caused by the same event."""
    producer = Producer({"bootstrap.servers": kafka, "acks": "all"})
    for number, versions in facts:
        cause = ("test", f"cause-{number}")
        rows = emitted(versions, group="evolving.main", source="/noria/evolving", cause=cause, now=datetime.now(UTC))
        for topic, key, value, headers in rows:
            pairs: list[tuple[str, str | bytes | None]] = [*unpack_headers(headers)]
            producer.produce(topic, value=value, key=key, headers=pairs)
    assert producer.flush(20) == 0


def readers(event: type[Event]) -> dict[str, int]:
    """What `noria groups` says: members that subscribe to the topic now, by the groups that have to do with it."""
    command = [sys.executable, "-m", "services.cli.app", "groups", event.TOPIC, "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {row["group"]: row["reads"] for row in found["items"]}


def test_revision_breaks_nothing_and_the_new_version_would() -> None:
    old, revised, new = (event.model_json_schema() for event in (WeighedV1, WeighedV1Revised, WeighedV2))
    assert breaking_changes(old, revised) == []
    found = breaking_changes(revised, new)
    assert any("$.weight: removed" in line for line in found)
    assert any("$.grams: newly required" in line for line in found)

    before, after = WeighedV1(project="p", number=1, weight="1 g"), both(1)[0]
    for event, reader in ((before, WeighedV1Revised), (after, WeighedV1)):
        _, value, headers = encode(event, new_meta(event, "test", "1"))
        received: Any = decode(reader, headers, value).data
        assert (received.number, received.weight) == (1, "1 g")


def test_versions_of_one_fact_bear_one_id_and_other_events_do_not() -> None:
    events = [*both(1), both(2)[0], both(3)[0]]
    rows = emitted(events, group="g", source="s", cause=("s", "c"), now=datetime.now(UTC))
    ids = [dict(unpack_headers(row[3]))["ce_id"] for row in rows]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_consumers_move_one_by_one_and_no_effect_is_lost_or_doubled(kafka: str, consumers: list[Consumer]) -> None:
    stays, moves, new = consumers
    for consumer in (stays, moves):
        consumer.read_version("v1")
    # 1: before anything changed; 2: the additive revision
    produce(kafka, [(n, [WeighedV1(project="p", number=n, weight=f"{n} g")]) for n in range(50)])
    produce(kafka, [(n, both(n)[:1]) for n in range(50, 100)])
    for consumer in (stays, moves):
        until(consumer.notes, lambda found: found == list(range(100)))
    # 3: both versions; a consumer of v2 begins, while one of v1 goes on and one is killed in the middle and moves
    new.read_version("v2")
    produce(kafka, [(n, both(n)) for n in range(100, 1000)])
    until(moves.notes, lambda found: len(found) > 150)
    moves.kill()
    moves.read_version("v2")
    produce(kafka, [(n, both(n)) for n in range(1000, 1200)])
    for consumer, first in ((stays, 0), (moves, 0), (new, 100)):
        until(consumer.notes, lambda found, first=first: len(found) >= 1200 - first, 60)
        assert consumer.notes() == list(range(first, 1200)), "lost, doubled or out of order"
    assert {text.split()[0] for _, text in stays.texts()} == {"v1"}
    assert Counter(text.split()[0] for _, text in moves.texts())["v2"] >= 200
    until(lambda: moves.figure("duplicates_total"), lambda count: count > 0)
    # 4: Kafka says who still reads v1; 5: the last one moves
    assert readers(WeighedV1)[stays.group] == 1
    until(lambda: readers(WeighedV1).get(moves.group, 0), lambda count: count == 0)
    assert readers(WeighedV2) == {moves.group: 1, new.group: 1}
    stays.stop()
    stays.read_version("v2")
    until(lambda: sum(readers(WeighedV1).values()), lambda count: count == 0)
    # 6: the producer ends v1
    produce(kafka, [(n, both(n)[1:]) for n in range(1200, 1250)])
    for consumer in consumers:
        until(consumer.notes, lambda found: found[-1:] == [1249])
    assert stays.notes() == list(range(1250))
    assert asyncio.run(groups.members([c.group for c in consumers])) == {c.group: 1 for c in consumers}
