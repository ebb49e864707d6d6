"""Consumption through FastStream: batches, each in one worker thread, offsets committed after the transaction.

One subscriber a service. A batch that the database refuses is tried again until it is taken; nothing is committed
before. Knows no table.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage

from services.chassis.messaging.batch import BatchContext, BatchResult, record, take
from services.chassis.messaging.kafka import aiokafka_patches
from services.chassis.messaging.kafka.security import Security
from services.chassis.messaging.messages import ConsumerRecord

LOG: Any = structlog.get_logger("consume")
FOR_EVER_MS = 10**9
"""FastStream sleeps once more for as long after an empty poll, so no poll is ever empty."""
FETCH_WAIT_MS = 1000
"""So long a fetch waits where there is nothing new. Beside a backlog less: aiokafka_patches.PromptFetcher."""

FETCH_BYTES = 4 << 20
"""A partition's share of one fetch; the next is asked for only when it has been handled."""

POSITION_SECONDS = 2.0


class Membership(ConsumerRebalanceListener):
    """Whether the group has dealt out its partitions; an instance that got none is a standby, not a fault.

    `taken` is emptied when the group deals anew: another member may have gone on from there.
    """

    def __init__(self, taken: dict[TopicPartition, int]) -> None:
        self.joined = False
        self._taken = taken

    def on_partitions_revoked(self, revoked: Any) -> None:
        """The group deals anew."""
        self.joined = False
        self._taken.clear()

    def on_partitions_assigned(self, assigned: Any) -> None:
        """The group has dealt."""
        self.joined = True


class Consumer:
    """The consumer group of a service. `on_commit(result)` is called after each transaction.

    `instance` names this member (KIP-345): one that comes back under its name takes its partitions over at once,
    where a new member would wait until the killed one's session has run out.
    """

    def __init__(
        self,
        context: BatchContext,
        bootstrap: str,
        records: int,
        on_commit: Callable[[BatchResult], None],
        instance: str | None = None,
        security: Security | None = None,
    ) -> None:
        aiokafka_patches.install()
        self.fault: str | None = None
        self._context = context
        self._on_commit = on_commit
        self._taken: dict[TopicPartition, int] = {}
        self._membership = Membership(self._taken)
        self._busy = False
        self._broker = KafkaBroker(
            bootstrap,
            client_id=context.group,
            consumer_only=True,
            allow_auto_create_topics=False,
            apply_types=False,
            logger=None,
            security=(security or Security()).faststream(),
            graceful_timeout=6.0,
        )
        self._subscriber = self._broker.subscriber(
            *context.routes,
            group_id=context.group,
            group_instance_id=instance,
            batch=True,
            max_records=records,
            batch_timeout_ms=FOR_EVER_MS,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            isolation_level="read_committed",  # `noria dlq redrive` publishes in transactions
            listener=self._membership,
            parser=_parse,
            decoder=_decode,
        )
        self._subscriber(self._on_batch)

    @property
    def _consumer(self) -> AIOKafkaConsumer | None:
        return self._subscriber.consumer

    async def start(self) -> None:
        """Joins the group; tries on while Kafka is away."""
        while True:
            try:
                await self._broker.start()
            except (KafkaError, OSError) as error:
                LOG.warning("waiting for Kafka to consume", detail=f"{error!r}"[:300])
                await self._broker.stop()
                await asyncio.sleep(1)
            else:
                return

    async def stop(self) -> None:
        """Finishes the batch under way and leaves the group."""
        await self._broker.stop()

    async def _on_batch(self, messages: Any) -> None:  # FastStream builds a model of any narrower type
        self._busy = True
        for topic, count in _by_topic(messages).items():
            self._context.metrics.consumed.labels(topic).inc(count)
        # What is in hand is not taken yet, though the consumer's position is past it.
        for place, offset in {(m.topic, m.partition): m.offset for m in reversed(messages)}.items():
            self._taken.setdefault(TopicPartition(*place), offset)
        result = await self._take(messages)
        record(result, self._context.metrics)
        self._on_commit(result)
        await self._commit(messages)
        self._busy = False

    async def _take(self, messages: Sequence[ConsumerRecord]) -> BatchResult:
        pause = 0.2
        while True:
            begun = time.perf_counter()
            try:
                result = await asyncio.to_thread(take, self._context, messages)
            except Exception as error:
                self.fault = f"a batch cannot be taken: {type(error).__name__}: {error}"[:500]
                LOG.error("batch not taken, trying again", detail=self.fault, messages=len(messages), pause=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            else:
                self.fault = None
                LOG.debug("batch", messages=len(messages), seconds=round(time.perf_counter() - begun, 4))
                return result

    async def _commit(self, messages: Sequence[ConsumerRecord]) -> None:
        ends = {(m.topic, m.partition): m.offset + 1 for m in messages}
        offsets = {TopicPartition(*place): offset for place, offset in ends.items()}
        self._taken.update(offsets)
        if self._consumer is None:
            return
        try:
            await self._consumer.commit(offsets)
        except (KafkaError, IllegalStateError) as error:
            # The messages come again, here or at another member, and the inbox knows them.
            LOG.info("offsets not committed; the messages will come again", detail=f"{error!r}"[:300])

    @property
    def joined(self) -> bool:
        """Whether this instance is a member of its group."""
        return self._consumer is not None and self._membership.joined

    async def lag(self) -> dict[str, int]:
        """Messages not taken yet, by topic, of the partitions this instance holds."""
        result = dict.fromkeys(self._context.routes, 0)
        for place, (taken, high) in (await self.positions()).items():
            result[place.topic] += max(0, high - taken)
        return result

    async def positions(self) -> dict[TopicPartition, tuple[int, int]]:
        """(next offset to take, end) of the partitions this instance holds and has heard of."""
        result: dict[TopicPartition, tuple[int, int]] = {}
        consumer = self._consumer
        for place in consumer.assignment() if consumer else ():
            high = consumer.highwater(place) if consumer else None
            if consumer is None or high is None:
                continue
            taken = self._taken.get(place)
            if taken is None or not self._busy:  # an idle position is behind the marks of transactions too
                try:
                    async with asyncio.timeout(POSITION_SECONDS):
                        taken = await consumer.position(place)
                except (KafkaError, IllegalStateError, TimeoutError):
                    continue  # the group deals anew, or Kafka is away; `check` says so
            result[place] = (taken, high)
        return result

    @property
    def trouble(self) -> str | None:
        """What keeps this instance from consuming; None where nothing does."""
        if self.fault is not None:
            return self.fault
        if self._consumer is None:
            return "has not joined its consumer group yet"
        return None if self._membership.joined else "the consumer group deals out its partitions"


def _by_topic(messages: Sequence[ConsumerRecord]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for message in messages:
        counts[message.topic] = counts.get(message.topic, 0) + 1
    return counts


async def _parse(records: Any) -> KafkaMessage:
    """Wraps a batch as it is; FastStream's own parser raises on a null header and loses the message."""
    return KafkaMessage(body=b"", raw_message=records, consumer=_NO_CONSUMER)


async def _decode(message: KafkaMessage) -> Any:
    return message.raw_message


class _NoConsumer:
    async def commit(self) -> None:
        """Does nothing: offsets are committed by Consumer alone."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Does nothing."""


_NO_CONSUMER = _NoConsumer()
