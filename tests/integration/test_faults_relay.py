"""The relay against a real broker that refuses, and against its own zombie: nothing blocks, nothing is lost."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka import Message

from contracts.events.console import OutboxSettledV1
from services.chassis.messaging.kafka.topics import make_topics
from tests.integration.tiny.harness import Harness, until

TOO_LARGE_FOR_THE_BROKER = "1500000"
AUDIT = OutboxSettledV1.TOPIC


def test_message_that_the_broker_itself_refuses_does_not_block_the_rest(kafka: str, tmp_path: Path) -> None:
    """aiokafka lets it pass, the broker does not, and the sequence numbers of the partition have a gap after it."""
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    harness.make_topics()
    harness.start()
    harness.send(*(harness.ping_of(n, "boast", TOO_LARGE_FOR_THE_BROKER if n % 5 == 2 else "1") for n in range(20)))
    answers = harness.answers(16)
    assert {number for number, _ in answers.values()} == {n for n in range(20) if n % 5 != 2}
    until(lambda: harness.figure("outbox_failed"), lambda count: count == 4)
    until(lambda: harness.figure("outbox_waiting"), lambda waiting: waiting == 0)
    harness.stop()


def test_refused_event_is_sent_once_the_topic_takes_it_or_is_given_up(kafka: str, tmp_path: Path) -> None:
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    harness.make_topics()
    asyncio.run(make_topics(kafka, [NewTopic(AUDIT, 1, 1)]))
    harness.start()
    harness.send(harness.ping_of(1, "boast", TOO_LARGE_FOR_THE_BROKER), harness.ping_of(2, "boast"))
    until(lambda: harness.figure("outbox_failed"), lambda count: count == 2)
    one, two = [row["number"] for row in noria(harness, "list")["items"]]

    assert noria(harness, "retry", "prep", str(one))["items"] == [{"number": one, "outcome": "retried"}]
    until(lambda: harness.figure("outbox_waiting"), lambda waiting: waiting == 0)
    until(lambda: harness.figure("outbox_failed"), lambda count: count == 2)  # the topic takes it as little as before
    asyncio.run(_allow(kafka, harness.pong, 2_000_000))
    assert noria(harness, "retry", "prep", str(one), "--because", "wider")["items"][0]["outcome"] == "retried"
    assert {number for number, _ in harness.answers(1).values()} == {1}
    assert noria(harness, "discard", "prep", "--all")["items"] == [{"number": two, "outcome": "discarded"}]
    until(lambda: harness.figure("outbox_failed"), lambda count: count == 0)
    assert noria(harness, "list")["items"] == []

    def ours(messages: Sequence[Message]) -> list[dict[str, Any]]:
        told = [json.loads(message.value() or b"{}") for message in messages]
        return [entry for entry in told if entry["service"] == harness.name]

    found = ours(harness.read(AUDIT, lambda messages: len(ours(messages)) >= 3))
    assert [(entry["number"], entry["action"], entry["reason"]) for entry in found] == [
        (one, "retried", ""), (one, "retried", "wider"), (two, "discarded", ""),
    ]  # fmt: skip
    assert {entry["topic"] for entry in found} == {harness.pong}
    harness.stop()


def noria(harness: Harness, verb: str, *arguments: str) -> Any:
    """What `noria outbox VERB ARGUMENTS --json` prints, the service standing for prep."""
    service = ("--service", "prep") if verb == "list" else ()
    command = [sys.executable, "-m", "services.cli.app", "outbox", verb, *service, *arguments, "--json"]
    environment = {**harness.environment, "NORIA_PREP_PORT": str(harness.port)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


async def _allow(kafka: str, topic: str, most_bytes: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        wider = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(most_bytes)})
        await admin.alter_configs([wider])
    finally:
        await admin.close()
