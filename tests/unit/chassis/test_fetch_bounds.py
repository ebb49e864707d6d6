"""What is fetched: no more of a partition at once than a portion of bytes, and a backlog waits for no other partition."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import consumer, fetcher
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState
from aiokafka.record import default_records
from aiokafka.structs import TopicPartition

from services.chassis.messaging.kafka.aiokafka_patches import (
    BESIDE_BACKLOG_MS,
    HEADER_BYTES,
    PORTION_BYTES,
    BoundedRecords,
    LenientRecords,
    PromptFetcher,
    install,
)
from services.chassis.messaging.kafka.decompression import HEADERS

Builder: Any = default_records._DefaultRecordBatchBuilderPy  # pyright: ignore[reportPrivateUsage]
PLACE = TopicPartition("t", 0)
SMALL, LARGE, GZIP = 200, 1_000_000, 1
Pairs = Sequence[tuple[str, bytes | None]]


def fetched(batches: int, records: int, size: int, headers: Pairs) -> bytes:
    """Compressed batches of equal records, as one fetch brings them."""
    data = bytearray()
    for number in range(batches):
        builder = Builder(2, GZIP, False, -1, -1, -1, 1 << 30)
        for offset in range(records):
            builder.append(offset, 1000, b"k", bytes(size), headers)
        batch = builder.build()
        data += (number * records).to_bytes(8, "big") + batch[8:]
    return bytes(data)


async def polls(data: bytes, most: int) -> list[list[int]]:
    """The offsets that each poll takes, as aiokafka's fetcher asks for them; the position follows."""
    assignment = Assignment([PLACE])
    state = assignment.state_value(PLACE)
    state.reset_to(0)
    records = fetcher.PartitionRecords(PLACE, LenientRecords(data), [], 0, None, None, True, fetcher.READ_UNCOMMITTED)
    part = BoundedRecords(PLACE, assignment=assignment, partition_records=records, backoff=0)
    found: list[list[int]] = []
    while part.has_more():
        found.append([record.offset for record in part.getall(most)])
        assert not found[-1] or state.position == found[-1][-1] + 1
    return found


@pytest.mark.parametrize(
    ("size", "headers", "expected"),
    [
        (SMALL, [], 100),
        (LARGE, [], 2),
        (SMALL, [("large", bytes(LARGE))], 2),
        (SMALL, [("n" * LARGE, b"")], 2),
        (SMALL, [("", None)] * (LARGE // HEADER_BYTES), 2),
    ],
)
def test_poll_ends_where_its_portion_is_full_and_none_is_lost(size: int, headers: Pairs, expected: int) -> None:
    found = asyncio.run(polls(fetched(20, 10, size, headers), 100))
    assert max(map(len, found)) == expected
    assert [offset for poll in found for offset in poll] == list(range(200))


def test_record_larger_than_a_portion_is_taken_alone() -> None:
    headers = [("", None)] * HEADERS
    assert HEADERS * HEADER_BYTES + 1_800_000 > PORTION_BYTES
    found = asyncio.run(polls(fetched(1, 3, 1_800_000, headers), 100))
    assert [len(poll) for poll in found if poll] == [1, 1, 1]


async def waits(handled: Sequence[TopicPartition], longest: int) -> dict[TopicPartition, int]:
    """How long the next fetch waits for news of each partition that it asks for, while those of `handled` are handled."""
    places = [PLACE, TopicPartition("t", 1)]
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    made = cast(Any, PromptFetcher(client, SubscriptionState(), fetch_max_wait_ms=longest))
    assignment = Assignment(places)
    for place in places:
        assignment.state_value(place).reset_to(0)
    made._select_read_replica = lambda tp: 0
    for place in handled:
        made._records[place] = BoundedRecords(place, assignment=assignment, partition_records=None, backoff=0)
    requests: Any = made._get_actions_per_node(assignment)[0]
    await made.close()
    return {
        TopicPartition(topic, part[0]): request._max_wait_ms
        for _, request in requests
        for topic, parts in request.topics
        for part in parts
    }


def test_a_fetch_beside_a_backlog_waits_for_news_only_shortly() -> None:
    """The partition that is handled is asked for again only after this fetch: it must not wait for the idle one."""
    other = TopicPartition("t", 1)
    assert asyncio.run(waits([], 1000)) == {PLACE: 1000, other: 1000}
    assert asyncio.run(waits([PLACE], 1000)) == {other: BESIDE_BACKLOG_MS}
    assert asyncio.run(waits([PLACE], 20)) == {other: 20}


def test_consumers_of_the_process_fetch_so() -> None:
    install()
    assert consumer.Fetcher is PromptFetcher
