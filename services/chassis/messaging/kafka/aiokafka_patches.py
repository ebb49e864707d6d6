"""What of aiokafka's internals Noria replaces in its consumers, all in this module.

Tested against the releases of TESTED; a test fails where another one is installed. Each replacement goes once aiokafka does
the same by itself; no issue of its tracker asks for either yet.

Records that aiokafka cannot read (`LenientRecords`). It raises on a header's name that is not UTF-8 while it unpacks a fetched
batch: the records before it are skipped, the partition is read again and again, and whoever may write to a topic
could stop its consumers so. Here such a batch is unpacked once more by aiokafka's own parser in Python, with the bytes that are
no UTF-8 as backslash escapes in the name. What cannot be read at all, or would unpack to too much (aiokafka unpacks without a
bound), becomes one record in the place of the rest of its batch: its value is an `Unread` with the batch's bytes and
the reason, its offset the batch's last, so that the group goes on.

A poll bounded by bytes (`BoundedRecords`). aiokafka bounds it by number alone: 500 records that unpack to a megabyte each fit
into one fetch where they are compressed, and are held several times over until their transaction ends: a megabyte on the
wire took a service to 2.7 GB so.

A short wait beside a backlog (`PromptFetcher`). aiokafka has one fetch under way at each broker. While a partition's
records are handled it asks for the others, which wait for news as long as they may; a partition that is through is asked for
again only after that: with a second to wait, a backlog stood still for up to a second after each fetch.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from aiokafka.consumer import consumer, fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records, memory_records
from aiokafka.record.util import decode_varint_py
from aiokafka.structs import ConsumerRecord

from services.chassis.messaging.kafka import decompression

TESTED = "0.14."
"""The releases of aiokafka whose internals these are, by the beginning of their number."""

_SlowBatch: Any = default_records._DefaultRecordBatchPy  # pyright: ignore[reportPrivateUsage]
_SlowRecord: Any = default_records._DefaultRecordPy  # pyright: ignore[reportPrivateUsage]
_SlowRecords: Any = memory_records._MemoryRecordsPy  # pyright: ignore[reportPrivateUsage]
_MAGIC_OFFSET = 16
KEPT_BYTES = 1_500_000
"""Of a refused batch, so that Kafka takes its dead letter with the notes."""


class _Lenient(bytearray):
    """Bytes whose slices decode to text whatever they hold."""

    def __getitem__(self, place: Any) -> Any:
        part: Any = super().__getitem__(place)
        return _Lenient(part) if isinstance(place, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, "backslashreplace")


class _LenientBatch(_SlowBatch):
    """aiokafka's slow parser, whose numbers are read in C all the same, and there beyond the end of corrupt data."""

    def _read_msg(self) -> Any:
        return super()._read_msg(decode_varint_py)

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Lenient(self._buffer)


class _Batch:
    """A batch by the quick parser, and by the patient one from the record on at which the quick one gives up."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._quick: Any = default_records.DefaultRecordBatch(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._quick, name)

    def __next__(self) -> Any:
        return next(self._quick)  # the mark of an aborted transaction is asked for so

    def __iter__(self) -> Iterator[Any]:
        try:
            data = decompression.plain(self._data)
        except decompression.BatchRefused as error:
            yield self._refusal(error.reason, str(error))
            return
        done = 0
        try:
            for record in self._quick if data is self._data else default_records.DefaultRecordBatch(data):
                yield record
                done += 1
        except (UnicodeDecodeError, CorruptRecordException, OverflowError, MemoryError):  # a length of 64 bits
            yield from self._leniently(data, done)

    def _leniently(self, data: bytes | bytearray, done: int) -> Iterator[Any]:
        try:
            for record in islice(_LenientBatch(data), done, None):
                yield record
                done += 1
        except CorruptRecordException as error:
            yield self._refusal("batch_corrupt", f"after {done} of its records: {error}")

    def _refusal(self, reason: str, detail: str) -> Any:
        value = decompression.Unread(self._data[:KEPT_BYTES])
        value.reason = reason
        value.detail = f"a record batch of {len(self._data)} bytes from offset {self._quick.base_offset} on: {detail}"
        offset, kind = self._quick.next_offset - 1, self._quick.timestamp_type
        return _SlowRecord(offset, self._quick.first_timestamp, kind, None, value, [])


class LenientRecords(_SlowRecords):
    """The batches of a fetched partition."""

    def next_batch(self) -> Any:
        """The next batch, None at the end."""
        data = self._next_slice
        if data is None or len(data) <= _MAGIC_OFFSET or data[_MAGIC_OFFSET] < 2:
            return super().next_batch()
        self._cache_next()
        return _Batch(bytes(data))


PORTION_BYTES = 1 << 20
"""One or two of the largest messages, or 800 of the usual ones, which is more than a poll takes by number.

Measured under batches of 16 MB: with 4 MB the service came to 383 MB, with 1 MB to 296.
"""
HEADER_BYTES = 128
"""What a header costs as Python's objects, on top of what it holds: on the wire it may have two bytes."""

_Fetched: Any = fetcher.FetchResult


class BoundedRecords(_Fetched):
    """The records of a fetched partition; at least one of them is taken at a time, so that it goes on."""

    def getall(self, max_records: int | None = None) -> list[ConsumerRecord[Any, Any]]:
        """The next records: all of them, or up to `max_records` or the one that fills the portion."""
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        found: list[ConsumerRecord[Any, Any]] = []
        room = PORTION_BYTES
        rest: Any = self._partition_records
        for record in rest:
            found.append(record)
            room -= weight(record)
            if room <= 0 or len(found) == max_records:
                self._update_position()
                return found
        self._update_position()
        self._partition_records = None
        return found


def weight(record: ConsumerRecord[Any, Any]) -> int:
    """About the bytes that a record holds in memory."""
    headers = record.headers
    try:
        held = sum(map(len, chain.from_iterable(headers)))
    except TypeError:  # a value that is null
        held = sum(len(name) + len(value or b"") for name, value in headers)
    return HEADER_BYTES * len(headers) + record.serialized_key_size + record.serialized_value_size + held


FOR_EVER_MS = 2**31 - 1
BESIDE_BACKLOG_MS = 100
"""As long as aiokafka itself waits for a partition's records to be handled before it asks for the others."""


class PromptFetcher(fetcher.Fetcher):
    """Waits `fetch_max_wait_ms` for news only where nothing that was fetched is left to be handled."""

    _records: dict[Any, Any]
    _fetch_max_wait_ms: int

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._longest_wait_ms = self._fetch_max_wait_ms

    def _get_actions_per_node(self, assignment: Any) -> Any:
        self._fetch_max_wait_ms = min(BESIDE_BACKLOG_MS if self._records else FOR_EVER_MS, self._longest_wait_ms)
        actions: Any = super()._get_actions_per_node(assignment)
        return actions


def install() -> None:
    """Replaces all of it in aiokafka's consumers of this process."""
    setattr(consumer, "Fetcher", PromptFetcher)  # noqa: B010
    setattr(fetcher, "MemoryRecords", LenientRecords)  # noqa: B010 - a module's attribute of another type
    setattr(fetcher, "FetchResult", BoundedRecords)  # noqa: B010
