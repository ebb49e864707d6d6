"""Brings the index of dead letters up to what Kafka holds now, from where it last stood. Sends nothing."""

import hashlib
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.envelope import Malformed, decode
from contracts.events.console import LetterSettledV1
from services.cli import kafka
from services.cli.addresses import settings
from services.cli.dead_letter_index import DeadLetterIndex, Place
from services.cli.dead_letters import DeadLetterFilter, summary

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

AUDIT = LetterSettledV1.TOPIC


@asynccontextmanager
async def reading() -> "AsyncGenerator[tuple[AIOKafkaConsumer, DeadLetterIndex]]":
    """A consumer, and the index of this Kafka as it stands now.

    Raises:
        Unreachable: Kafka does not answer, or a transaction stays open.
    """
    index = DeadLetterIndex(index_file(await _cluster()))
    try:
        async with kafka.consumer() as reader:
            await catch_up(reader, index)
            yield reader, index
    finally:
        index.close()


async def catch_up(reader: "AIOKafkaConsumer", index: DeadLetterIndex) -> None:
    """Reads the letters that came since, then what became of any: so that no fate is missed of a letter that is known."""
    from contracts.topics import dead_letter_topics

    await _read(reader, index, dead_letter_topics())
    await read_audit(reader, index)


async def read_audit(reader: "AIOKafkaConsumer", index: DeadLetterIndex) -> None:
    """Reads what became of letters since."""
    await _read(reader, index, [AUDIT])


async def open_dead_letters() -> tuple[int, dict[str, Any] | None]:
    """How many letters nobody settled, and the newest of them. Raises as `reading`."""
    async with reading() as (_, index):
        newest, _ = index.page(DeadLetterFilter(), 1, open_only=True)
        return index.count(DeadLetterFilter(), open_only=True), newest[0] if newest else None


async def fetch(reader: "AIOKafkaConsumer", kept: dict[str, Any]) -> "ConsumerRecord[Any, Any]":
    """The message of a dead-letter topic at `kept`: {topic, partition, offset}.

    Raises:
        Unreachable: Kafka sent nothing of it.
    """
    from aiokafka import TopicPartition

    place = TopicPartition(kept["topic"], kept["partition"])
    async for messages in kafka.read_on(reader, place, kept["offset"], kept["offset"] + 1):
        for message in messages:
            return message
    raise kafka.silent(place)


async def _read(reader: "AIOKafkaConsumer", index: DeadLetterIndex, topics: Sequence[str]) -> None:
    places = await kafka.partitions(topics)
    known = index.places()
    first, last = await kafka.bounds(reader, places)
    for place in places:
        here: Place = (place.topic, place.partition)
        begin = known.get(here, 0)
        if begin > last[place]:
            index.clear(*here)
            begin = 0
        index.forget(*here, first[place])
        async for messages in kafka.read_on(reader, place, max(begin, first[place]), last[place]):
            _add(index, place, messages)
        _add(index, place, [], last[place])


def _add(
    index: DeadLetterIndex, place: "TopicPartition", messages: "Sequence[ConsumerRecord[Any, Any]]", next: int = 0
) -> None:
    here, upto = (place.topic, place.partition), messages[-1].offset + 1 if messages else next
    if place.topic == AUDIT:
        index.add_fates(here, upto, [fate for message in messages if (fate := _fate(message))])
    else:
        index.add_dead_letters(here, upto, [(message.offset, summary(message)) for message in messages])


def _fate(message: "ConsumerRecord[Any, Any]") -> tuple[str, dict[str, Any]] | None:
    try:
        said = decode(LetterSettledV1, message.headers, message.value)
    except Malformed:
        return None  # somebody else's words are no audit record
    fate = {"action": said.data.action, "by": said.data.by, "at": said.meta.time.isoformat()}
    return said.data.letter, {**fate, "reason": said.data.reason}


async def _cluster() -> str:
    """What tells this Kafka from another: the cluster's id, which Kafka makes when its storage is formatted."""
    async with kafka.admin() as client:
        return str((await client.describe_cluster()).get("cluster_id") or "unknown")


def index_file(cluster: str) -> Path | str:
    """Where the index of a cluster lies; in memory where the home cannot be written."""
    folder = settings().home / "state" / "dead-letters"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ":memory:"
    if not os.access(folder, os.W_OK):
        return ":memory:"
    from contracts.topics import dead_letter_topics

    read = hashlib.sha256("\n".join(dead_letter_topics()).encode()).hexdigest()[:8]
    return folder / f"{cluster}-{read}.db"
