"""Inbox, context, parking, retries and outbox against a model: a log of messages, two members, crashes at any point.

Whatever happens, a message has one fate, its effect and its events once, in the order of its key. Not here: two
transactions at the same moment (test_members_at_once) and the broker (tests/integration).
"""

from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from sqlalchemy import Engine, text

from contracts.envelope import Event, Meta
from services.chassis.errors import Dead, Park
from services.chassis.messaging import parking, retry
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.messaging.messages import ConsumerRecord, routes
from services.chassis.messaging.outbox import OUTBOX, event_id, unpack_headers
from services.chassis.messaging.parking import PARKED
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.database import reading, writing
from tests.integration.tiny.events import Ping, Pong
from tests.integration.tiny.service import SqlStore
from tests.unit.chassis.machines import Crash, dying_at_commit, empty, explore
from tests.unit.chassis.records import Record, ping

GROUP = "tiny.main"
ATTEMPTS = 3
MEMBERS = st.sampled_from(["one", "two"])
KEYS = st.sampled_from(["a", "b", "c", None])
PARTITION = {"a": 0, "b": 1, "c": 1, None: 0}
BEHAVIOURS = st.sampled_from(["done", "park", "bug", "dead", "two", "silent", "broken"])
MESSAGES = st.lists(st.tuples(KEYS, BEHAVIOURS), min_size=2, max_size=6)
CRASHES = st.sampled_from(["no"] * 7 + ["in the handler", "at commit", "after commit"])


@dataclass
class Message:
    """A message of the log. `does`: what its handler does now."""

    number: int
    key: str | None
    does: str
    record: Record
    tries: int = 0
    """Tries that ended with a bug since its last other end."""


@dataclass
class Member:
    """A member of the group: the next offset of each partition it holds, and a batch in its hands."""

    places: dict[int, int] = field(default_factory=dict[int, int])
    batch: list[ConsumerRecord] = field(default_factory=list[ConsumerRecord])


class Messages(RuleBasedStateMachine):
    """The machine; `engine` is set by the test."""

    engine: Engine
    sick = Bundle("sick")

    def __init__(self) -> None:
        super().__init__()
        self.messages: dict[int, Message] = {}
        self.log: dict[int, list[Record]] = {0: [], 1: []}
        self.committed = {0: 0, 1: 0}
        self.members = {"one": Member({0: 0}), "two": Member({1: 0})}
        self.dies_at: int | None = None
        self.tried: list[int] = []
        self.waiting = False
        self.context = BatchContext(
            GROUP,
            "/noria/tiny",
            routes({Ping: self.on_ping}),
            self.engine,
            SqlStore,
            Metrics("tiny"),
            attempts=ATTEMPTS,
            longest_pause=7200.0,
        )

    @initialize(target=sick, messages=MESSAGES)
    def begin(self, messages: list[tuple[str | None, str]]) -> Any:
        empty(self.engine)
        return self.send_some(messages)

    def on_ping(self, event: Ping, meta: Meta, store: SqlStore) -> Iterable[Event]:
        """What the message's `does` says, after its effect: what fails must leave nothing of it."""
        message = self.messages[event.number]
        store.note(event.number, message.does)
        self.tried.append(event.number)
        if self.dies_at is not None:
            self.dies_at -= 1
            if self.dies_at < 0:
                raise Crash
        match message.does:
            case "dead":
                raise Dead("not_wanted", "never wanted")
            case "park":
                raise Park("not_yet", "not yet")
            case "bug":
                store.session.flush()
                raise ValueError("a fault\x00\ud800")  # what a database may not take
            case _:
                return [Pong(project=event.project, number=event.number)] * EVENTS[message.does]

    # What happens outside: messages come, handlers fall ill and are mended.

    @rule(target=sick, messages=MESSAGES)
    def send(self, messages: list[tuple[str | None, str]]) -> Any:
        return self.send_some(messages)

    def send_some(self, messages: list[tuple[str | None, str]]) -> Any:
        return multiple(*(number for each in messages if (number := self.append(*each)) is not None))

    def append(self, key: str | None, does: str) -> int | None:
        """The message's number, where something ails it."""
        number = len(self.messages)
        partition = PARTITION[key]
        record = replace(ping(number, key=key or "none"), partition=partition, offset=len(self.log[partition]))
        record = replace(record, key=None if key is None else record.key)
        record = replace(record, value=b"{") if does == "broken" else record
        self.messages[number] = Message(number, key, does, record)
        self.log[partition].append(record)
        return number if does in ("park", "bug") else None

    @rule(which=st.integers(0, 50))
    def send_again(self, which: int) -> None:
        """The producer sends a message once more: another record with the same ce_id."""
        if (message := self.messages.get(which)) is not None and message.does != "broken":
            partition = message.record.partition
            self.log[partition].append(replace(message.record, offset=len(self.log[partition])))

    @rule(target=sick, number=consumes(sick), does=st.sampled_from(["done", "dead", "park", "bug"]))
    def change(self, number: int, does: str) -> Any:
        """What ails the message passes, or turns into something else."""
        self.messages[number].does = does
        return number if does in ("park", "bug") else multiple()

    # The consumer group.

    @precondition(lambda self: self.has_more())
    @rule(name=MEMBERS, count=st.integers(1, 6))
    def poll(self, name: str, count: int) -> None:
        member = self.members[name]
        if not member.batch:
            for partition, place in member.places.items():
                records = self.log[partition][place : place + count]
                member.places[partition] = place + len(records)
                member.batch += records

    def has_more(self) -> bool:
        """Whether a member has something to handle."""
        return any(
            member.batch or any(place < len(self.log[partition]) for partition, place in member.places.items())
            for member in self.members.values()
        )

    @precondition(lambda self: self.has_more())
    @rule(name=MEMBERS, crash=CRASHES, at=st.integers(0, 4))
    def work(self, name: str, crash: str, at: int) -> None:
        """The member handles what it holds, and what it polls now where it holds nothing."""
        member = self.members[name]
        self.poll(name, 4)
        self.tried.clear()
        with self.dying(crash, at) as end:
            take(self.context, member.batch)
            end.append("committed")
        if end:
            self.note_tries(set(self.tried))  # a batch that is done again with savepoints is one try
        if not end or crash == "after commit":
            self.restart(name)
            return
        for raw in member.batch:
            if raw.partition in member.places:  # Kafka refuses the offsets of whoever lost the partition
                self.committed[raw.partition] = max(self.committed[raw.partition], raw.offset + 1)
        member.batch = []

    def restart(self, name: str) -> None:
        """The member begins anew where the group's offsets stand."""
        member = self.members[name]
        member.batch = []
        member.places = {partition: self.committed[partition] for partition in member.places}

    @precondition(lambda self: self.has_more())
    @rule(partition=st.sampled_from([0, 1]), name=MEMBERS)
    def rebalance(self, partition: int, name: str) -> None:
        """The partition goes to a member; the other may still hold a batch of it, as one that was stopped does."""
        for other in self.members.values():
            other.places.pop(partition, None)
        self.members[name].places[partition] = self.committed[partition]

    @precondition(lambda self: self.waiting)
    @rule(which=st.none() | st.integers(0, 5), crash=CRASHES, at=st.integers(0, 4))
    def try_again(self, which: int | None, crash: str, at: int) -> None:
        """The time of one parked message, or of all, has come."""
        parked = self.parked()
        if not parked:
            return
        with writing(self.engine) as connection:
            number = None if which is None else parked[which % len(parked)].number
            parking.retry_now(connection, GROUP, number, parked[0].parked_at)
        self.tried.clear()
        with self.dying(crash, at) as end:
            retry.try_due(self.context)
            end.append("committed")
        if end:
            self.note_tries(self.tried)

    @contextmanager
    def dying(self, crash: str, at: int) -> Generator[list[str]]:
        """Where the process dies; the block puts something into the list at its end."""
        end: list[str] = []
        self.dies_at = at if crash == "in the handler" else None
        with dying_at_commit(self.engine) if crash == "at commit" else nullcontext():
            try:
                yield end
            except Crash:
                end.clear()
            finally:
                self.dies_at = None

    # What must hold.

    def note_tries(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            message = self.messages[number]
            message.tries = message.tries + 1 if message.does == "bug" else 0

    def parked(self) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.execute(PARKED.select().order_by(PARKED.c.number)))

    def fates(self) -> dict[int, list[str]]:
        """Number -> its fates so far."""
        found: dict[int, list[str]] = defaultdict(list)
        with reading(self.engine) as connection:
            for (number,) in connection.execute(text("SELECT number FROM note ORDER BY place")):
                found[number].append("done")
        for row in self.published():
            if row.topic.endswith(".dlq"):
                found[self.number_of(row)].append("dead")
        for row in self.parked():
            found[self.number_at(row.partition, row.offset)].append("parked")
        return found

    def published(self) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.execute(OUTBOX.select().order_by(OUTBOX.c.id)))

    def number_of(self, row: Any) -> int:
        headers = {name: value.decode() for name, value in unpack_headers(row.headers) if value is not None}
        if row.topic.endswith(".dlq"):
            return self.number_at(int(headers["noria-partition"]), int(headers["noria-offset"]))
        return int(headers["ce_causationid"].removeprefix("id-"))

    def number_at(self, partition: int, offset: int) -> int:
        headers: Any = dict(self.log[partition][offset].headers)
        return int(headers["ce_id"].removeprefix(b"id-"))

    @invariant()
    def holds(self) -> None:
        """All of the following."""
        self.waiting = bool(self.parked())
        self.each_message_has_one_fate()
        self.effects_are_in_the_order_of_their_key()
        self.nobody_overtakes_a_parked_message()
        self.each_event_stands_once_under_its_own_id()
        self.bug_is_given_up_after_its_tries_and_no_earlier()

    def each_message_has_one_fate(self) -> None:
        fates = self.fates()
        for number, found in fates.items():
            assert len(found) == 1, f"message {number} is {found}"
        for partition, records in self.log.items():
            for record in records[: self.committed[partition]]:
                number = self.number_at(partition, record.offset)
                assert fates.get(number), f"message {number} lies before the offset and has no fate"
        with reading(self.engine) as connection:
            taken = text("SELECT count(*) FROM inbox WHERE consumer NOT LIKE '% dead letter %'")
            assert connection.execute(taken).scalar_one() == len(fates)

    def effects_are_in_the_order_of_their_key(self) -> None:
        with reading(self.engine) as connection:
            done = [number for (number,) in connection.execute(text("SELECT number FROM note ORDER BY place"))]
        emitted = [self.number_of(row) for row in self.published()]
        for numbers in (done, emitted):
            for key in ("a", "b", "c"):
                mine = [n for n in numbers if self.messages[n].key == key and self.messages[n].does != "broken"]
                assert mine == sorted(mine), f"key {key}: {mine}"

    def nobody_overtakes_a_parked_message(self) -> None:
        fates = self.fates()
        for number in (number for number, found in fates.items() if found == ["parked"]):
            key = self.messages[number].key
            readable = [n for n in fates if self.messages[n].does != "broken"]  # what has no effect need not wait
            later = [n for n in readable if n > number and self.messages[n].key == key]
            assert key is None or all(fates[n] == ["parked"] for n in later), f"{later} passed {number}"

    def each_event_stands_once_under_its_own_id(self) -> None:
        fates = self.fates()
        found: dict[int, list[str]] = defaultdict(list)
        for row in self.published():
            if row.topic == Pong.TOPIC:
                headers: Any = dict(unpack_headers(row.headers))
                found[self.number_of(row)].append(headers["ce_id"].decode())
        for number, ids in found.items():
            assert fates[number] == ["done"]
            assert ids == [event_id(GROUP, "test", f"id-{number}", index) for index in range(len(ids))]
        with reading(self.engine) as connection:
            for number, does in connection.execute(text("SELECT number, text FROM note")):
                assert len(found[number]) == EVENTS[does]

    def bug_is_given_up_after_its_tries_and_no_earlier(self) -> None:
        fates = self.fates()
        for number, message in self.messages.items():
            if message.does == "bug" and number in fates:
                assert (fates[number] == ["dead"]) == (message.tries >= ATTEMPTS), f"{number} after {message.tries}"

    def teardown(self) -> None:
        """Everything that ails passes: what was sent gets done or dead, and nothing waits."""
        for message in self.messages.values():
            message.does = "done" if message.does in ("park", "bug") else message.does
        for partition, name in ((0, "one"), (1, "two")):
            self.rebalance(partition, name)
        for name in self.members:
            self.work(name, "no", 0)
            self.restart(name)
            while any(place < len(self.log[p]) for p, place in self.members[name].places.items()):
                self.poll(name, 6)
                self.work(name, "no", 0)
        while self.parked():
            self.try_again(None, "no", 0)
        self.holds()
        assert set(self.fates()) == set(self.messages)


EVENTS = {"done": 1, "silent": 0, "two": 2}


def test_each_message_has_one_effect_in_order_whatever_crashes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "FIRST_SECONDS", 3600.0)  # no try is due by itself
    Messages.engine = engine
    explore(engine, Messages, examples=100)
