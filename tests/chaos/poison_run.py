"""Sends poison between good messages to a running tiny service and asks what became of each. Makes no message itself."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiokafka.admin import NewTopic
from confluent_kafka import Message, Producer

from services.chassis.messaging.kafka.topics import MAX_REQUEST, make_topics
from tests.broker import running
from tests.chaos.poison import Poison, corpus, good, messages
from tests.integration.tiny.harness import Harness, header, until

KEYS = 7
GOOD = "good"
CODECS = ("gzip", "snappy", "lz4", "zstd")
BOMB_RECORDS = 60
SWARM_BATCHES, SWARM_RECORDS = 12, 16
HIGHEST_BYTES = 300_000_000
"""However many there are: the service rests at 90 MB, and twelve batches that unpack to 16 MB each come in one fetch."""
Place = tuple[int, int]
"""(partition, offset)."""


@dataclass
class Outcome:
    """What became of what was sent; `fates` counts by (sort, fate)."""

    fates: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    faults: list[str] = field(default_factory=list[str])
    bombs: int = 0
    seconds: float = 0.0
    highest_bytes: int = 0


def prepare(harness: Harness) -> None:
    """Makes the topics; the dead letters' takes as much as a real one."""
    large = NewTopic(harness.dead, 1, 1, topic_configs={"max.message.bytes": str(MAX_REQUEST)})
    asyncio.run(make_topics(harness.kafka, [large]))
    harness.make_topics()


def mixed(topic: str, seed: int, count: int) -> Iterator[Poison]:
    """The corpus and `count` generated messages, a good one after each third."""
    number = 0
    for n, poison in enumerate([*corpus(topic), *messages(topic, seed, count)]):
        yield poison
        if n % 3 == 0:
            yield good(topic, number, f"good-{number}", f"good-{number % KEYS}", GOOD)
            number += 1


def run(harness: Harness, poisons: Iterable[Poison], seconds: float) -> Outcome:
    """Sends all, bombs first, and waits until each has its fate."""
    begun, outcome = time.monotonic(), Outcome()
    for codec in CODECS:
        send_bomb(harness, codec)
    sent, refused = send(harness, poisons)
    sent |= send_swarm(harness)
    until(harness.lag, lambda lag: lag == 0, seconds)
    until(lambda: harness.figure("parked_waiting"), lambda waiting: waiting == 0, seconds)
    until(lambda: harness.figure("outbox_waiting"), lambda waiting: waiting == 0, seconds)
    outcome.fates.update((poison.sort, "refused by Kafka") for poison in refused)
    outcome.highest_bytes = highest(harness)  # before this itself asks the service for all that it noted
    if outcome.highest_bytes > HIGHEST_BYTES:
        outcome.faults.append(
            f"the service held {outcome.highest_bytes / 1e6:.0f} MB, more than {HIGHEST_BYTES / 1e6:.0f}"
        )
    _judge(harness, sent, outcome, seconds)
    outcome.seconds = time.monotonic() - begun
    return outcome


def send(harness: Harness, poisons: Iterable[Poison], **options: str | int) -> tuple[dict[Place, Poison], list[Poison]]:
    """What Kafka took, by its place, and what it refused; `options` are the producer's."""
    producer = Producer({"bootstrap.servers": harness.kafka, "acks": "all", "enable.idempotence": True, **options})
    sent: dict[Place, Poison] = {}
    refused: list[Poison] = []

    def delivered(poison: Poison, error: Any, message: Message) -> None:
        place = (message.partition(), message.offset())
        if error is not None or place[0] is None or place[1] is None:
            refused.append(poison)
        else:
            sent[place[0], place[1]] = poison

    for poison in poisons:
        if poison.timestamp:  # Kafka refuses the whole batch of a message with an impossible time
            producer.flush(30)
        _produce(producer, harness.ping, poison, lambda e, m, p=poison: delivered(p, e, m))
        if poison.timestamp:
            producer.flush(30)
    assert producer.flush(60) == 0
    return sent, refused


def _produce(producer: Producer, topic: str, poison: Poison, callback: Any) -> None:
    while True:
        try:
            producer.produce(
                topic,
                value=poison.value,
                key=poison.key,
                headers=list(poison.headers),
                timestamp=poison.timestamp,
                on_delivery=callback,
            )
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def send_bomb(harness: Harness, codec: str) -> None:
    """One batch of 60 MB of zeros, which are a few kilobytes on the wire (snappy: 3 MB, so fewer)."""
    size = 100_000_000
    producer = Producer(
        {
            "bootstrap.servers": harness.kafka,
            "compression.type": codec,
            "message.max.bytes": size,
            "batch.size": size,
            "linger.ms": 1000,
            "queue.buffering.max.kbytes": 200_000,
        }
    )
    for _ in range(18 if codec == "snappy" else BOMB_RECORDS):
        producer.produce(harness.ping, value=bytes(1_000_000), key=b"bomb", partition=0)
    assert producer.flush(30) == 0


def send_swarm(harness: Harness) -> dict[Place, Poison]:
    """Batches that each stay under every bound: 190 MB in 12 of them, which one fetch brings.

    Valid events, the most of each in a field that nobody knows; and the largest record of all, whose dead letter Kafka
    must take.
    """
    large = {"compression.type": "gzip", "message.max.bytes": 100_000_000, "batch.size": 100_000_000}
    count = {"batch.num.messages": SWARM_RECORDS, "linger.ms": 1000, "queue.buffering.max.kbytes": 400_000}
    last = Poison("largest record", b"swarm", bytes(1_890_000), [], "dead", frozenset({"too_large"}))
    many = (_padded(harness.ping, number) for number in range(SWARM_BATCHES * SWARM_RECORDS))
    sent, _ = send(harness, [*many, last], **large, **count)
    assert len(sent) == SWARM_BATCHES * SWARM_RECORDS + 1
    return sent


def _padded(topic: str, number: int) -> Poison:
    one = good(topic, number, f"swarm-{number}", "swarm")
    padding = b'{"padding": "' + b"x" * 990_000 + b'", '
    return replace(one, sort="swarm", value=padding + (one.value or b"")[1:])


def highest(harness: Harness) -> int:
    """The most memory that the service's process ever held, in bytes."""
    assert harness.process is not None
    status = Path(f"/proc/{harness.process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def _judge(harness: Harness, sent: dict[Place, Poison], outcome: Outcome, seconds: float) -> None:
    expected = sum(poison.expectation == "dead" for poison in sent.values())
    figure = int(harness.figure("dead_total"))
    letters = harness.read(harness.dead, lambda found: len(found) >= max(expected, figure), seconds)
    dead = {
        (int(header(m, "noria-partition")), int(header(m, "noria-offset"))): header(m, "noria-reason") for m in letters
    }
    outcome.bombs = sum(reason == "batch_too_large" for reason in dead.values())
    for place, poison in sent.items():
        reason = dead.get(place)
        outcome.fates[poison.sort, reason or "done"] += 1
        if (reason is None and poison.expectation == "dead") or (reason and poison.expectation == "done"):
            outcome.faults.append(f"{poison.sort} at {place}: {reason or 'done'}, not {poison.expectation}")
        if reason and poison.reasons and reason not in poison.reasons:
            outcome.faults.append(f"{poison.sort} at {place}: {reason}, not one of {sorted(poison.reasons)}")
    _judge_done(harness, sent, {place for place in sent if place not in dead}, outcome, seconds)


def _judge_done(
    harness: Harness, sent: dict[Place, Poison], done: set[Place], outcome: Outcome, seconds: float
) -> None:
    answers = harness.answers(len(done), seconds)
    if len(answers) != len(done):
        outcome.faults.append(f"{len(sent)} sent and {len(sent) - len(done)} dead, but {len(answers)} answered")
    noted = harness.get("/notes")
    effects: list[tuple[int, str]] = noted.json() if noted is not None else []
    if len(effects) != len(done):
        outcome.faults.append(f"{len(done)} done, but {len(effects)} effects")
    notes = [n for n, text in effects if text == GOOD]  # a changed byte may turn another's number into one of these
    number = sum(poison.sort == "good" for poison in sent.values())
    for key in range(KEYS):
        found = [n for n in notes if n % KEYS == key]
        if found != list(range(key, number, KEYS)):
            wrong = [n for n, m in zip(found, range(key, number, KEYS), strict=False) if n != m][:5]
            outcome.faults.append(f"key {key}: {len(found)} good messages done of {number}, first wrong {wrong}")


def main() -> None:
    """Runs it on a broker of its own and prints a table; exit status 1 where anything is lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.poison", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with running() as broker, tempfile.TemporaryDirectory(prefix="noria-poison-") as folder:
        harness = Harness(broker.bootstrap, f"sqlite:///{folder}/state.db", Path(folder))
        prepare(harness)
        harness.start()
        try:
            outcome = run(harness, mixed(harness.ping, arguments.seed, arguments.count), 600)
        finally:
            harness.stop()
    for (sort, fate), count in sorted(outcome.fates.items()):
        print(f"{sort:40} {fate:20} {count:8}")
    print(f"{outcome.bombs} bombs; {outcome.seconds:.1f} s; {outcome.highest_bytes / 1e6:.0f} MB at most")
    print("\n".join(outcome.faults) or "nothing lost")
    sys.exit(1 if outcome.faults or outcome.bombs < len(CODECS) else 0)
