"""Kafka as the chassis uses it: waiting for it, the catalogue's topics, a producer. Knows no table."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from contracts.topics import BY_NAME, FOR_EVER, consumed_by, dead_letter_topic, produced_by
from services.chassis.errors import NotReady, SettingRefused
from services.chassis.messaging.kafka.security import Security, refusal

LOG: Any = structlog.get_logger("kafka")
MAX_REQUEST = 2_000_000
"""Bytes: a message of the largest allowed size and the notes of its dead letter."""
OPEN = Security()
DEAD_LETTERS = "dead_letters"
KEPT_AS_AGREED: Mapping[str, float] = {}


def producer(bootstrap: str, client: str, security: Security = OPEN) -> AIOKafkaProducer:
    """A producer that loses nothing and keeps the order: idempotent, acknowledged by all replicas."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client,
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_REQUEST,
        max_batch_size=128 * 1024,
        linger_ms=0,
        **security.arguments(),
    )


def topics_of(service: str, days: Mapping[str, float] = KEPT_AS_AGREED) -> list[NewTopic]:
    """The catalogue's topics that a service touches, and its dead-letter topics, as they shall be made.

    `days`: retention by topic where it is not the catalogue's; `DEAD_LETTERS` names all dead-letter topics.
    """
    consumed = consumed_by(service)
    group = f"{service}.main"
    plain = {topic.name: topic for topic in (*consumed, *produced_by(service))}
    dead = [dead_letter_topic(topic.name, group) for topic in consumed if group in topic.consumers]
    return [_new(name, days) for name in plain] + [_dead(name, days) for name in dead]


def retention(name: str, days: Mapping[str, float] = KEPT_AS_AGREED) -> timedelta:
    """How long Kafka keeps a topic's messages; FOR_EVER: without end."""
    own = days.get(name, days.get(DEAD_LETTERS) if name.endswith(".dlq") else None)
    if own is not None:
        return timedelta(days=own)
    return BY_NAME[name].retention if name in BY_NAME else FOR_EVER


def refuse_short_inbox(consumed: Iterable[str], inbox: timedelta, days: Mapping[str, float]) -> None:
    """Refuses to forget messages while Kafka may still bring them again.

    A topic that Kafka keeps for ever cannot be meant: its old messages come again only where somebody moves the group back.

    Raises:
        SettingRefused: a topic's retention is longer than the inbox'.
    """
    for name in consumed:
        kept = retention(name, days)
        if kept >= inbox:
            needed = kept / timedelta(days=1)
            raise SettingRefused(
                f"NORIA_INBOX_DAYS={inbox / timedelta(days=1):g} is too short: Kafka keeps {name} for {needed:g} days, and what "
                "comes again after the inbox has forgotten it takes effect twice; set it to more than that"
            )


def _new(name: str, days: Mapping[str, float]) -> NewTopic:
    topic = BY_NAME[name]
    configs = {
        "retention.ms": _milliseconds(retention(name, days)),
        "cleanup.policy": "compact" if topic.compacted else "delete",
    }
    return NewTopic(name, topic.partitions, -1, replica_assignments={}, topic_configs=configs)


def _dead(name: str, days: Mapping[str, float]) -> NewTopic:
    configs = {"retention.ms": _milliseconds(retention(name, days)), "max.message.bytes": str(MAX_REQUEST)}
    return NewTopic(name, 1, -1, replica_assignments={}, topic_configs=configs)


def _milliseconds(kept: timedelta) -> str:
    return "-1" if kept == FOR_EVER else str(int(kept.total_seconds() * 1000))


async def make_topics(bootstrap: str, topics: Iterable[NewTopic], security: Security = OPEN) -> list[str]:
    """Makes those topics that do not exist; gives the names of the new ones.

    Raises:
        NotReady: Kafka does not answer, or refuses a topic.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap, client_id="noria-admin", request_timeout_ms=10_000, **security.arguments()
    )
    try:
        await admin.start()
        existing = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in existing]
        return await _create(admin, missing) if missing else []
    except (KafkaError, OSError, TimeoutError) as error:
        raise NotReady(f"Kafka at {bootstrap} does not answer: {type(error).__name__} {error}") from error
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> list[str]:
    response: Any = await admin.create_topics(topics)
    made: list[str] = []
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code == 0:
            made.append(name)
        elif error is not TopicAlreadyExistsError:
            raise NotReady(f"Kafka refuses the topic {name}: {error.__name__} {message}")
    return made


async def wait_for_topics(
    bootstrap: str,
    wanted: Iterable[NewTopic],
    security: Security = OPEN,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Returns once Kafka answers and the topics that are wanted exist; says what it waits for.

    `tell` is given why Kafka and this client do not trust each other, nothing where it is merely away.
    """
    waited = 0.0
    while True:
        try:
            made = await make_topics(bootstrap, wanted, security)
        except NotReady as error:
            if waited % 10 == 0:
                cause = await refusal(bootstrap, security)
                tell(cause or "")
                detail = (cause or str(error))[:300]
                LOG.warning("waiting for Kafka", bootstrap=bootstrap, waited_seconds=waited, detail=detail)
            waited += 1
            await asyncio.sleep(1)
            continue
        if made:
            LOG.info("topics made", topics=made)
        return
