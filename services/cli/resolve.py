"""Settles dead letters: sends a message again, or gives it up, and says so in the audit topic, both or neither.

The message and the audit record go in one Kafka transaction whose id is the letter's. To begin with that id ends what
another process began with it, and what is in the audit topic is read after: so a letter is settled once, whoever is
killed or does it twice. Source: KIP-98, "Exactly Once Delivery and Transactional Messaging".
"""

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from contracts.envelope import encode, named_project, new_meta
from contracts.events.console import LetterSettledV1
from contracts.topics import dead_letter_topic
from services.cli import kafka
from services.cli.dead_letter_index import DeadLetterIndex
from services.cli.dead_letter_reader import AUDIT, fetch, read_audit
from services.cli.dead_letters import NOTE
from services.cli.errors import ConsoleError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

Action = Literal["redriven", "discarded"]
SOURCE = "/noria/console"
REDRIVE = "noria-redrive"
"""Header of a redriven message: the letter's id. The chassis looks for it in the last place."""
OPEN_MS = 10_000
"""A killed transaction ends after so long by itself; until then it holds back whoever reads the audit topic."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """Who settles letters, how, and why."""

    action: Action
    by: str
    reason: str = ""


async def resolve(
    reader: "AIOKafkaConsumer", index: DeadLetterIndex, dead_letter: Mapping[str, Any], resolution: Resolution
) -> str:
    """'redriven' or 'discarded', or 'already redriven' and so on, where somebody had done it before.

    Raises:
        ConsoleError: `cannot_redrive`: what the letter holds cannot be sent again; `fenced`: another process took over.
        Unreachable: Kafka does not answer.
    """
    message = await fetch(reader, dead_letter["kept"])
    value = None if resolution.action == "discarded" else sendable(message, dead_letter)
    async with _transactional(dead_letter["id"]) as producer:
        await read_audit(reader, index)
        done = index.fate(dead_letter["id"])
        if done is not None:
            return f"already {done['action']}"
        audit = _audit(message, dead_letter, resolution)
        async with producer.transaction():
            if value is not None:
                headers = [
                    *((k, v) for k, v in message.headers if not k.startswith(NOTE)),
                    (REDRIVE, dead_letter["id"].encode()),
                ]
                place = await _place(producer, dead_letter)
                await producer.send_and_wait(dead_letter["topic"], value.body, message.key, place, headers=headers)
            key, body, headers = encode(
                audit, new_meta(audit, SOURCE, str(uuid.uuid5(uuid.NAMESPACE_URL, dead_letter["id"])))
            )
            await producer.send_and_wait(AUDIT, body, key, headers=headers)
    return resolution.action


@dataclass(frozen=True, slots=True)
class Value:
    """What is sent again; `body` may be null."""

    body: bytes | None


def sendable(message: "ConsumerRecord[Any, Any]", dead_letter: Mapping[str, Any]) -> Value:
    """The original value.

    Raises:
        ConsoleError: `cannot_redrive`.
    """
    if message.topic != dead_letter_topic(dead_letter["topic"], dead_letter["group"] or ""):
        why = f"the letter {dead_letter['id']} does not say truly which topic it came from; discard it"
        raise ConsoleError("cannot_redrive", why)
    if any(name == "noria-value" for name, _ in message.headers):
        raise ConsoleError(
            "cannot_redrive", f"the message of {dead_letter['id']} had neither key nor value; discard it"
        )
    return Value(message.value)


async def _place(producer: "AIOKafkaProducer", dead_letter: Mapping[str, Any]) -> int | None:
    """The partition that the message was in, so that it stays with its key whoever chose that partition."""
    known = await producer.partitions_for(dead_letter["topic"])
    return dead_letter["partition"] if dead_letter["partition"] in known else None


@asynccontextmanager
async def _transactional(dead_letter: str) -> "AsyncGenerator[AIOKafkaProducer]":
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError, ProducerFenced

    producer = AIOKafkaProducer(
        **kafka.kafka_client(),
        transactional_id=f"noria-letter-{dead_letter}",
        transaction_timeout_ms=OPEN_MS,
        acks="all",
        max_request_size=2_000_000,
    )
    try:
        await producer.start()
        yield producer
    except ProducerFenced as error:
        why = f"another `noria dlq` settles {dead_letter} at this moment; look with `noria dlq list --all`"
        raise ConsoleError("fenced", why) from error
    except KafkaError as error:
        raise await kafka.away(error) from error
    finally:
        await producer.stop()


def _audit(
    message: "ConsumerRecord[Any, Any]", dead_letter: Mapping[str, Any], resolution: Resolution
) -> LetterSettledV1:
    return LetterSettledV1(
        project=named_project(message.value),
        letter=dead_letter["id"],
        action=resolution.action,
        by=resolution.by,
        reason=resolution.reason,
        dead_letter_topic=message.topic,
        topic=dead_letter["topic"],
        group=dead_letter["group"] or "",
    )


async def make_audit_topic() -> None:
    """Makes the audit topic where it does not exist; it is kept for ever. Raises as `kafka.consumer`."""
    from aiokafka.admin import NewTopic

    configs = {"retention.ms": "-1", "cleanup.policy": "delete"}
    async with kafka.admin() as client:
        if AUDIT not in await client.list_topics():
            await client.create_topics([NewTopic(AUDIT, 1, -1, replica_assignments={}, topic_configs=configs)])
