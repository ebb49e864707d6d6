"""One poll takes no more of a partition than a portion of bytes, however small a fetch is on the wire."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.record import default_records
from aiokafka.structs import TopicPartition

from services.chassis.messaging.kafka.aiokafka_patches import (
    HEADER_BYTES,
    PORTION_BYTES,
    BoundedRecords,
    LenientRecords,
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
