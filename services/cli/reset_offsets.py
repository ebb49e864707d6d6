"""Moves the committed offsets of a consumer group, so that messages come again. Their effects do not: the inbox knows them."""

from datetime import datetime
from typing import Any

from services.cli.errors import ConsoleError
from services.cli.kafka import admin, away, consumer, kafka_client, partitions


async def plan(group: str, topic: str, start: int | datetime) -> list[dict[str, Any]]:
    """[{"topic", "partition", "committed", "to", "again"}]: what `move` would do, by partition.

    `start` is an offset, or a time whose first message and all after it shall come again. `again` counts the offsets
    that come again; below 0 it counts those that are left out.

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
        if isinstance(start, datetime):
            moment = round(start.timestamp() * 1000)
            found = await reader.offsets_for_times(dict.fromkeys(places, moment))
            wanted = {place: found[place].offset if found.get(place) else last[place] for place in places}
        else:
            wanted = dict.fromkeys(places, start)
    rows: list[dict[str, Any]] = []
    for place in places:
        to = min(max(wanted[place], first[place]), last[place])
        # An offset of -1 says that the group has confirmed nothing so far: it begins at the first message.
        at = max(first[place], done[place].offset if place in done else -1)
        rows.append({"topic": topic, "partition": place.partition, "committed": at, "to": to, "again": at - to})
    return rows


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
