"""The relay against a model of Kafka's answers: confirmed, failed, unknown, refused, a topic away; crashes, lost leases.

The model keeps what an idempotent producer promises: within a partition nothing passes what failed. What is checked:
every row is delivered at least once, first deliveries keep the order of the rows of a key, a row is deleted only once
Kafka has confirmed it, and given up only where Kafka refuses it.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    UnknownTopicOrPartitionError,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Engine

from services.chassis.jobs import leases
from services.chassis.messaging import outbox, relay
from services.chassis.messaging.outbox import OUTBOX
from services.chassis.messaging.produce import Pending
from services.chassis.messaging.relay import Relay
from services.chassis.storage.database import reading, writing
from tests.unit.chassis.machines import empty, explore

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
RELAYS = st.sampled_from(["one", "two"])
ROWS = st.lists(st.tuples(st.sampled_from(["t", "u"]), st.sampled_from(["a", "b"]), st.integers(0, 9)), max_size=6)
ANSWERS = st.lists(st.sampled_from(["confirmed"] * 4 + ["failed", "unknown"]), min_size=1, max_size=6)


@dataclass
class Kafka:
    """What was delivered; a row's value is its number, a leading '!' is what the broker refuses."""

    delivered: list[int] = field(default_factory=list[int])
    confirmed: set[int] = field(default_factory=set[int])
    away: set[str] = field(default_factory=set[str])
    answers: list[str] = field(default_factory=list[str])


class Builder:
    """A record batch in the making; what the broker refuses is large and has one to itself."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Any) -> bool | None:
        if self.values and (value.startswith(b"!") or self.values[0].startswith(b"!") or len(self.values) == 3):
            return None
        self.values.append(value)
        return True

    def close(self) -> None:
        pass


class Producer:
    """Answers as the script says; after a failure, and after a refusal, a partition takes nothing more of this producer."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.broken: set[tuple[str, int]] = set()

    async def partitions_for(self, topic: str) -> set[int]:
        if topic in self.kafka.away:
            if self.kafka.answers and self.kafka.answers.pop(0) == "confirmed":
                self.kafka.away.remove(topic)  # it is made while the rows of a batch are handed over
            raise UnknownTopicOrPartitionError
        return {0, 1, 2}

    def create_batch(self) -> Builder:
        return Builder()

    async def send_batch(self, builder: Builder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        error = self.answer((topic, partition), builder.values)
        future.set_result(None) if error is None else future.set_exception(error)
        return future

    def answer(self, lane: tuple[str, int], values: list[bytes]) -> Exception | None:
        """What becomes of a record batch."""
        kafka = self.kafka
        if lane in self.broken:
            return OutOfOrderSequenceNumber()
        if values[0].startswith(b"!"):
            self.broken.add(lane)
            return MessageSizeTooLargeError()
        answer = kafka.answers.pop(0) if kafka.answers else "confirmed"
        if answer == "failed":
            self.broken.add(lane)
            return KafkaConnectionError()
        kafka.delivered += map(int, values)
        if answer == "unknown":
            return KafkaTimeoutError()
        kafka.confirmed |= set(map(int, values))
        return None


class RelayMachine(RuleBasedStateMachine):
    """The machine; `engine` is set by the test."""

    engine: Engine
    now = BEGIN
    later = 0.0

    @initialize()
    def begin(self) -> None:
        empty(self.engine)
        type(self).now, type(self).later = BEGIN, 0.0
        self.kafka = Kafka()
        self.rows: list[tuple[str, str, bool]] = []
        self.starts = 0
        self.relays: dict[str, Relay] = {}
        self.producers: dict[str, Producer] = {}
        self.hands: dict[str, tuple[list[Pending], list[int], list[tuple[int, str]]]] = {}
        for name in ("one", "two"):
            self.restart(name)

    @rule(name=RELAYS)
    def restart(self, name: str) -> None:
        """The process of the relay ends, between any two steps, and another begins on its host."""
        self.starts += 1
        self.relays[name] = Relay(self.engine, "", f"{name}.example:1:{self.starts}")
        self.producers[name] = Producer(self.kafka)
        self.hands[name] = ([], [], [])

    @rule(rows=ROWS)
    def commit(self, rows: list[tuple[str, str, int]]) -> None:
        """A transaction leaves rows; one in ten is too large for the broker."""
        new = [(topic, key, size == 9) for topic, key, size in rows]
        numbers = range(len(self.rows), len(self.rows) + len(new))
        values = [f"{'!' * large}{n}".encode() for n, (_, _, large) in zip(numbers, new, strict=True)]
        with writing(self.engine) as connection:
            packed = [(t, k.encode(), v, "[]") for (t, k, _), v in zip(new, values, strict=True)]
            outbox.put(connection, packed, self.now)
        self.rows += new

    @precondition(lambda self: self.rows)
    @rule(name=RELAYS)
    def step(self, name: str) -> None:
        """The relay writes down the last answers and takes the next rows, without sending them yet."""
        _, sent, refused = self.hands[name]
        rows = self.relays[name]._step(sent, refused)  # pyright: ignore[reportPrivateUsage]
        self.hands[name] = (rows, [], [])

    @precondition(lambda self: self.rows)
    @rule(name=RELAYS, answers=ANSWERS)
    def send(self, name: str, answers: list[str]) -> None:
        """The relay sends what it has in its hands; before that its lease may have gone to the other."""
        rows, _, _ = self.hands[name]
        self.kafka.answers = list(answers)
        relay, producer = self.relays[name], self.producers[name]
        send = relay._send(cast(Any, producer), rows)  # pyright: ignore[reportPrivateUsage]
        sent, refused, fault = asyncio.run(send)
        self.hands[name] = ([], sent, refused)
        if fault is not None:  # as _publish: what is known is written down, then a new producer begins
            relay._settle(sent, refused)  # pyright: ignore[reportPrivateUsage]
            self.hands[name] = ([], [], [])
            self.producers[name] = Producer(self.kafka)

    @precondition(lambda self: self.rows)
    @rule(name=RELAYS, answers=ANSWERS)
    def carry(self, name: str, answers: list[str]) -> None:
        """What a relay mostly does."""
        self.step(name)
        self.send(name, answers)

    @rule(topic=st.sampled_from(["t", "u"]))
    def lose_topic(self, topic: str) -> None:
        self.kafka.away.add(topic)

    @rule()
    def make_topics(self) -> None:
        self.kafka.away.clear()

    @rule(seconds=st.sampled_from([5.0, 16.0, 31.0, 31.0, 3600.0, -3600.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, or the clock is set; a lease may run out while its holder sends."""
        type(self).now += timedelta(seconds=seconds)
        type(self).later += abs(seconds)

    @invariant()
    def holds(self) -> None:
        """Order, and no row gone without a confirmation."""
        if not hasattr(self, "kafka"):
            return
        first = list(dict.fromkeys(self.kafka.delivered))
        for lane in {row[:2] for row in self.rows}:
            mine = [n for n in first if self.rows[n][:2] == lane]
            assert mine == sorted(mine), f"{lane}: {mine}"
        with reading(self.engine) as connection:
            found = {int(bytes(row.value).lstrip(b"!")): row.status for row in connection.execute(OUTBOX.select())}
        for number, (_, _, large) in enumerate(self.rows):
            assert number in found or number in self.kafka.confirmed, f"{number} is gone and was never confirmed"
            assert found.get(number) != "failed" or large, f"{number} was given up"

    def teardown(self) -> None:
        """Kafka is well again: one relay of the two carries everything there, in a few steps."""
        if not hasattr(self, "kafka"):
            return
        self.kafka.away.clear()
        for name in ("one", "two"):
            self.restart(name)
        self.step("one")
        type(self).now += timedelta(seconds=31)
        type(self).later += 31
        for _ in range(3 + 2 * sum(large for _, _, large in self.rows)):
            self.step("one")
            self.send("one", ["confirmed"])
        self.step("one")
        self.holds()
        small = {n for n, (_, _, large) in enumerate(self.rows) if not large}
        assert set(self.kafka.delivered) == small
        with reading(self.engine) as connection:
            assert {row.status for row in connection.execute(OUTBOX.select())} <= {"failed"}


def test_every_row_gets_there_in_order_whatever_kafka_answers(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    RelayMachine.engine = engine
    monkeypatch.setattr(leases, "clock", lambda _: RelayMachine.now)
    monkeypatch.setattr(relay.time, "monotonic", lambda: RelayMachine.later)
    explore(engine, RelayMachine, examples=100, steps=40)
