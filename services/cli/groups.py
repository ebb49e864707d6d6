"""The consumer groups of Kafka as the broker knows them: members, what they subscribe to, what they have confirmed.

Asks as any admin client may; joins no group and moves no offset.
"""

import struct
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any

from contracts.topics import TOPICS
from services.cli.kafka import admin, lag


def of_catalogue() -> list[str]:
    """The groups of Noria's own services."""
    return sorted({group for topic in TOPICS for group in topic.consumers if group != "downstream"})


async def members(groups: Iterable[str]) -> dict[str, int]:
    """How many members each group has. Raises Unreachable where Kafka does not answer."""
    return {name: len(found) for name, (_, found) in (await _described(sorted(groups))).items()}


async def of_topic(topic: str) -> list[dict[str, Any]]:
    """[{"group", "state", "members", "reads", "lag"}] of every group that reads `topic` or has confirmed some of it.

    `reads` counts the members that subscribe to the topic now: 0 of a group that has moved away, or is down; `members`
    tells these apart. `lag` is by committed offsets. Raises Unreachable where Kafka does not answer.
    """
    async with admin() as client:
        names = sorted({str(found[0]) for found in await client.list_consumer_groups()})
        offsets = {name: await client.list_consumer_group_offsets(name) for name in names}
    committed = {name for name, places in offsets.items() if any(place.topic == topic for place in places)}
    found: list[dict[str, Any]] = []
    for name, (state, subscriptions) in (await _described(names)).items():
        reads = sum(topic in topics for topics in subscriptions)
        if reads or name in committed:
            entry = {"group": name, "state": state, "members": len(subscriptions), "reads": reads}
            found.append({**entry, "lag": await lag(name, topic)})
    return found


async def _described(names: Sequence[str]) -> dict[str, tuple[str, list[list[str]]]]:
    """By group: its state, and what each member subscribes to."""
    async with admin() as client:
        # One by one: aiokafka 0.14 reads version 3 of the answer as version 2 and stumbles over a second group.
        answers: list[Any] = [await client.describe_consumer_groups([name]) for name in names]
    rows = [group for (answer,) in answers for group in answer.groups]
    return {row[1]: (row[2], [_subscription(member[-2]) for member in row[5]]) for row in rows}


def _subscription(metadata: bytes) -> list[str]:
    """The topics in a member's metadata (Kafka's ConsumerProtocolSubscription); none while it only joins."""
    from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

    try:
        return list(ConsumerProtocolMemberMetadata.decode(BytesIO(metadata)).subscription)
    except (ValueError, struct.error):
        return []
