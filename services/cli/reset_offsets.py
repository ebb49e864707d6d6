"""Moves the committed offsets of a consumer group, so that messages come again.

Their effects do not, as far back as the inbox remembers (NORIA_INBOX_DAYS).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from services.cli.errors import ConsoleError
from services.cli.kafka import admin, away, consumer, kafka_client, partitions

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition


async def plan(group: str, topic: str, start: int | datetime, horizon: datetime) -> list[dict[str, Any]]:
    """[{"topic", "partition", "committed", "to", "again", "forgotten"}]: what `move` would do, by partition.

    `start` is an offset, or a time whose first message and all after it shall come again. `again` counts the offsets
    that come again; below 0 it counts those that are left out. `forgotten` counts those of them from before `horizon`,
    which the inbox may not remember: they may take effect again.

    Raises:
        ConsoleError: there is no such topic.
        Unreachable: Kafka does not answer.
    """
    places = await partitions([topic])
    if not places:
        raise ConsoleError("no_topic", f"Kafka has no topic {topic!r}; `noria groups TOPIC` shows who reads one")
    async with admin() as client, consumer() as reader:
        done = await client.list_consumer_group_offsets(group, partitions=places)
        first, last = await reader.beginning_offsets(places), await reader.end_offsets(places)
        wanted = await _at(reader, places, last, start) if isinstance(start, datetime) else dict.fromkeys(places, start)
        remembered = await _at(reader, places, last, horizon)
    rows: list[dict[str, Any]] = []
    for place in places:
        to = min(max(wanted[place], first[place]), last[place])
        # An offset of -1 says that the group has confirmed nothing so far: it begins at the first message.
        at = max(first[place], done[place].offset if place in done else -1)
        row = {"topic": topic, "partition": place.partition, "committed": at, "to": to, "again": at - to}
        rows.append({**row, "forgotten": max(0, min(at, remembered[place]) - to)})
    return rows


async def _at(
    reader: "AIOKafkaConsumer", places: "list[TopicPartition]", last: "Mapping[TopicPartition, int]", moment: datetime
) -> "dict[TopicPartition, int]":
    """The first offset from a moment on, by partition."""
    found = await reader.offsets_for_times(dict.fromkeys(places, round(moment.timestamp() * 1000)))
    return {place: found[place].offset if found.get(place) else last[place] for place in places}


async def move(group: str, rows: list[dict[str, Any]]) -> None:
    """Commits the offsets of a plan.

    Raises:
        ConsoleError: the group has members; Kafka lets nobody else commit for it.
        Unreachable: Kafka does not answer.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.errors import CommitFailedError, KafkaError, UnknownMemberIdError

    targets = {TopicPartition(r["topic"], r["partition"]): r["to"] for r in rows}
    writer = AIOKafkaConsumer(**kafka_client(), group_id=group, enable_auto_commit=False, request_timeout_ms=10_000)
    try:
        await writer.start()
        writer.assign(list(targets))
        await writer.commit(targets)
    except (CommitFailedError, UnknownMemberIdError) as error:
        raise busy(group) from error
    except KafkaError as error:
        raise await away(error) from error
    finally:
        await writer.stop()


def busy(group: str) -> ConsoleError:
    """The error that says that a group has members."""
    service = group.partition(".")[0]
    return ConsoleError(
        "group_is_active",
        f"{group} has members; stop every instance of {service} and try again once their session has run out (10 s)",
    )
