"""Hands outbox rows to aiokafka's producer as record batches, a partition's rows in their order. Knows no table."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from services.chassis.messaging.outbox import unpack_headers

ALONE_BYTES = 64 * 1024
"""A value from this size on is sent alone: what the broker refuses for its size takes no other row with it."""
_PARTITIONER: Any = DefaultPartitioner()
"""Java's: a key goes to the partition where any other client puts it."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A row to publish."""

    id: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: str


@dataclass(frozen=True, slots=True)
class SentBatch:
    """Rows that share one answer of Kafka, or the reason why they were not sent."""

    rows: Sequence[Pending]
    answer: asyncio.Future[Any]


@dataclass(slots=True)
class _Open:
    """A record batch that takes more rows."""

    builder: Any
    rows: list[Pending] = field(default_factory=list[Pending])


class BatchSender:
    """One turn of sending rows: a future for each batch, where `AIOKafkaProducer.send` makes one for each row.

    A row that cannot be encoded, and a topic whose partitions are not known, fail alone; a topic that is missing stays
    so until the turn ends, so that none of its rows overtakes another.
    """

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._partitions: dict[str, list[int] | KafkaError] = {}
        self._open: dict[tuple[str, int], _Open] = {}
        self._sent: list[SentBatch] = []

    async def send(self, rows: Sequence[Pending]) -> list[SentBatch]:
        """Every row, in batches, with the future of Kafka's answer."""
        for row in rows:
            partitions = await self._partitions_of(row.topic)
            if isinstance(partitions, KafkaError):
                self._fail([row], partitions)
                continue
            try:
                await self._add(row, _PARTITIONER(row.key, partitions, partitions))
            except Exception as error:
                self._fail([row], error)
        for place in list(self._open):
            await self._close(place)
        return self._sent

    async def _partitions_of(self, topic: str) -> list[int] | KafkaError:
        if topic not in self._partitions:
            try:
                self._partitions[topic] = sorted(await self._producer.partitions_for(topic))
            except KafkaError as error:
                self._partitions[topic] = error
        return self._partitions[topic]

    async def _add(self, row: Pending, partition: int) -> None:
        place, headers = (row.topic, partition), unpack_headers(row.headers)
        if row.value is None or len(row.value) >= ALONE_BYTES:
            await self._close(place)
            answer: Any = await self._producer.send(row.topic, row.value, row.key, partition, headers=headers)
            self._sent.append(SentBatch([row], answer))
            return
        batch = self._open.get(place) or self._begin(place)
        if batch.builder.append(timestamp=None, key=row.key, value=row.value, headers=headers) is None:  # it is full
            await self._close(place)
            batch = self._begin(place)
            batch.builder.append(timestamp=None, key=row.key, value=row.value, headers=headers)
        batch.rows.append(row)

    def _begin(self, place: tuple[str, int]) -> _Open:
        self._open[place] = _Open(self._producer.create_batch())
        return self._open[place]

    async def _close(self, place: tuple[str, int]) -> None:
        batch = self._open.pop(place, None)
        if batch is None or not batch.rows:
            return
        batch.builder.close()
        try:
            answer: Any = await self._producer.send_batch(batch.builder, place[0], partition=place[1])
            self._sent.append(SentBatch(batch.rows, answer))
        except Exception as error:
            self._fail(batch.rows, error)

    def _fail(self, rows: Sequence[Pending], error: Exception) -> None:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        self._sent.append(SentBatch(rows, future))
