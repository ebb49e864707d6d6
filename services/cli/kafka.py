"""Reads topics from Kafka without a consumer group: from here on, or what is there now. Writes nothing."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from services.cli.addresses import kafka_bootstrap, kafka_client, kafka_security
from services.cli.errors import ConsoleError, Unreachable

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient

T = TypeVar("T")
QUIET = 30.0
"""Seconds without a message, while some must still come, until Kafka counts as silent.

It is longer than Kafka lets a dead transaction stand.
"""


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of asynchronous work."""
    return asyncio.run(work)


@asynccontextmanager
async def consumer(*, committed: bool = True) -> "AsyncGenerator[AIOKafkaConsumer]":
    """A consumer without a group; with `committed` it gives no message of a transaction that was not committed.

    Raises:
        Unreachable: Kafka does not answer.
    """
    from aiokafka import AIOKafkaConsumer
    from aiokafka.errors import KafkaError

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells every lost connection; we tell it once
    level = "read_committed" if committed else "read_uncommitted"
    reader = AIOKafkaConsumer(**kafka_client(), group_id=None, request_timeout_ms=10_000, isolation_level=level)
    try:
        await reader.start()
        yield reader
    except KafkaError as error:
        raise await away(error) from error
    finally:
        await reader.stop()


async def away(error: Exception) -> Unreachable:
    """The error that says that Kafka does not answer."""
    from services.chassis.messaging.kafka.security import refusal

    if why := await refusal(kafka_bootstrap(), kafka_security()):
        return Unreachable("unreachable", why)
    message = f"Kafka does not answer on {kafka_bootstrap()} ({type(error).__name__}); start it with `noria up`"
    return Unreachable("unreachable", message)


@asynccontextmanager
async def admin() -> "AsyncGenerator[AIOKafkaAdminClient]":
    """An admin client. Raises as `consumer`."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    client = AIOKafkaAdminClient(**kafka_client(), request_timeout_ms=10_000)
    try:
        await client.start()
        yield client
    except KafkaError as error:
        raise await away(error) from error
    finally:
        await client.close()


async def partitions(topics: Iterable[str]) -> "list[TopicPartition]":
    """The partitions of those of `topics` that exist."""
    from aiokafka import TopicPartition

    # A consumer without a group learns of no partition before it subscribes; the admin client may ask.
    async with admin() as client:
        wanted = sorted(set(topics) & set(await client.list_topics()))
        described = await client.describe_topics(wanted) if wanted else []
    return sorted(TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"])


async def lag(group: str, topic: str) -> int:
    """Messages of `topic` whose effects `group` has not confirmed, by its committed offsets."""
    places = await partitions([topic])
    async with admin() as client, consumer() as reader:
        done = await client.list_consumer_group_offsets(group, partitions=places)
        first, last = await reader.beginning_offsets(places), await reader.end_offsets(places)
    # An offset of -1 says that the group has confirmed nothing of the partition so far.
    return sum(last[p] - max(first[p], done[p].offset if p in done else -1) for p in places)


async def bounds(
    reader: "AIOKafkaConsumer", places: "Sequence[TopicPartition]"
) -> "tuple[dict[TopicPartition, int], dict[TopicPartition, int]]":
    """The first offset of each partition and the one after its last, those of open transactions among them."""
    if not places:
        return {}, {}
    first = await reader.beginning_offsets(places)
    async with consumer(committed=False) as whole:  # the others' ends are those before the first open transaction
        return first, await whole.end_offsets(places)


async def read_on(
    reader: "AIOKafkaConsumer", place: "TopicPartition", begin: int, end: int
) -> "AsyncIterator[list[ConsumerRecord[Any, Any]]]":
    """The messages of a partition from the offset `begin` up to `end`, some hundreds at a time, in order.

    Raises:
        Unreachable: Kafka stopped answering before the end.
    """
    if begin >= end:
        return
    reader.assign([place])
    reader.seek(place, begin)
    while (before := await reader.position(place)) < end:
        found = await _some(reader, place)
        if not found and await reader.position(place) == before:
            raise silent(place)
        if some := [message for message in found if message.offset < end]:
            yield some


def silent(place: "TopicPartition") -> Unreachable:
    """The error that says that Kafka answers and sends nothing."""
    return Unreachable("timeout", f"Kafka sent nothing of {place.topic} for {QUIET:g} s; see `noria status`")


async def _some(reader: "AIOKafkaConsumer", place: "TopicPartition") -> "list[ConsumerRecord[Any, Any]]":
    """The next messages; none where there were only marks of transactions, or nothing for QUIET seconds."""
    before, deadline = await reader.position(place), time.monotonic() + QUIET
    while time.monotonic() < deadline:
        found = await reader.getmany(place, timeout_ms=500, max_records=500)
        if found or await reader.position(place) != before:
            return found.get(place, [])
    return []


async def count(reader: "AIOKafkaConsumer", topics: Iterable[str]) -> dict[str, int]:
    """Number of messages by topic, of topics that hold any."""
    places = await partitions(topics)
    first, last = await reader.beginning_offsets(places), await reader.end_offsets(places)
    totals: dict[str, int] = {}
    for place in places:
        totals[place.topic] = totals.get(place.topic, 0) + last[place] - first[place]
    return {topic: total for topic, total in totals.items() if total}


async def follow(
    reader: "AIOKafkaConsumer", topics: Sequence[str], *, from_beginning: bool
) -> "AsyncIterator[ConsumerRecord[Any, Any]]":
    """Messages of `topics` as they come, without end."""
    places = await partitions(topics)
    if not places:
        raise ConsoleError("no_topic", f"Kafka has none of these topics yet: {', '.join(topics)}")
    reader.assign(places)
    if from_beginning:
        await reader.seek_to_beginning(*places)
    else:
        await reader.seek_to_end(*places)
    while True:
        for messages in (await reader.getmany(timeout_ms=1000)).values():
            for message in messages:
                yield message
