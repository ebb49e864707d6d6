"""Unpacks compressed record batches under a bound on what they unpack to. Knows neither topic nor consumer.

A few kilobytes of zeros, compressed, stand for hundreds of megabytes: whoever may write to a topic could end its
consumers so. Never more than BATCH_BYTES and RECORDS are made of one batch.

Sources of the formats: Kafka's "Record Batch" (protocol guide), RFC 1952 (gzip), RFC 8878 (zstd), KIP-57 (LZ4 frames),
and xerial's snappy-java, whose blocks each begin with their length.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import cramjam

BATCH_BYTES = 16 << 20
"""A producer's limit counts what is not compressed yet, and is 1 MB where nobody raised it."""
RECORD_BYTES = 1_900_000
"""What Kafka takes again as a dead letter with its notes."""
HEADERS = 20_000
"""Of a record: each may have two bytes, which become two hundred as Python's objects."""
RECORDS = 100_000
"""Records of a batch: so many in 16 MB have 168 bytes each, less than an event's headers and value."""
HEADER_BYTES = 61
_ATTRIBUTES = struct.Struct(">h")
_ATTRIBUTES_AT = 21
_COUNT = struct.Struct(">i")
_COUNT_AT = 57
_CODEC = 0x07
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER = 16
PIECE = 1 << 20
_FULL = "failed to write whole buffer"

Unpack = Callable[[bytes], bytearray]
"""The batch with its records unpacked in the place where they stay: further copies of 16 MB would fill the heap."""
Into = Callable[[bytes, memoryview], int]


class BatchRefused(ValueError):
    """A batch that cannot be read; `reason` is `batch_too_large` or `batch_corrupt`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Unread(bytes):
    """The bytes of a refused batch in the place of a message's value, and why there is no message."""

    reason: str
    detail: str


def plain(batch: bytes) -> bytes | bytearray:
    """The record batch of format 2 without its compression; the same object where it has none.

    Its CRC is that of the compressed batch.

    Raises:
        BatchRefused: more than BATCH_BYTES or RECORDS, a record of more than RECORD_BYTES or HEADERS, or no valid data.
    """
    (count,) = _COUNT.unpack_from(batch, _COUNT_AT)
    if count > RECORDS:
        raise BatchRefused("batch_too_large", f"it holds {count} records; at most {RECORDS} are taken")
    (attributes,) = _ATTRIBUTES.unpack_from(batch, _ATTRIBUTES_AT)
    codec = attributes & _CODEC
    if not codec:
        return batch
    unpack = _UNPACKERS.get(codec)
    if unpack is None:
        raise BatchRefused("batch_corrupt", f"the compression codec {codec} is none of Kafka's")
    plain = unpack(batch)
    _ATTRIBUTES.pack_into(plain, _ATTRIBUTES_AT, attributes & ~_CODEC)
    _bound_records(plain, count)
    return plain


def _bound_records(records: bytearray, count: int) -> None:
    """Refuses other records than the broker has seen and counted: what stands behind them would be a refusal too."""
    at, found = HEADER_BYTES, 0
    while at < len(records):
        length, at = _varint(records, at)
        if length < 0:
            raise BatchRefused("batch_corrupt", f"a record of the batch has the length {length}")
        if length > RECORD_BYTES:
            raise BatchRefused("batch_too_large", f"a record has {length} bytes; at most {RECORD_BYTES} are taken")
        if length > 2 * HEADERS and (headers := _count_headers(records, at)) > HEADERS:
            raise BatchRefused("batch_too_large", f"a record has {headers} headers; at most {HEADERS} are taken")
        at += length
        found += 1
    if found != count or at != len(records):
        raise BatchRefused("batch_corrupt", f"its data is not that of {count} records")


def _count_headers(records: bytearray, at: int) -> int:
    """How many headers the record says to have whose attributes stand at `at`."""
    _, at = _varint(records, at + 1, 10)  # time
    _, at = _varint(records, at)  # offset
    for _ in ("key", "value"):
        length, at = _varint(records, at)
        at += max(length, 0)
    return _varint(records, at)[0]


def _varint(data: bytearray, at: int, longest: int = 5) -> tuple[int, int]:
    """A zigzag varint of at most `longest` bytes, and the place after it."""
    value = shift = 0
    for byte in data[at : at + longest]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
    raise BatchRefused("batch_corrupt", "a number in a record of the batch cannot be read")


def _gzip(batch: bytes) -> bytearray:
    plain, data = bytearray(batch[:HEADER_BYTES]), batch[HEADER_BYTES:]
    try:
        while data:
            member = zlib.decompressobj(wbits=31)
            while data and not member.eof:
                plain += member.decompress(data, PIECE)
                data = member.unconsumed_tail
                if len(plain) > HEADER_BYTES + BATCH_BYTES:
                    raise _too_large()
            if not member.eof:
                raise _corrupt("gzip", "it ends too early")
            data = member.unused_data
    except zlib.error as error:
        raise _corrupt("gzip", error) from error
    return plain


def _snappy(batch: bytes) -> bytearray:
    plain, at = bytearray(batch[:HEADER_BYTES]), HEADER_BYTES
    if not batch.startswith(_XERIAL, at):
        _snappy_block(batch[at:], plain)
        return plain
    at += _XERIAL_HEADER
    while at < len(batch):
        size = int.from_bytes(batch[at : at + 4], "big", signed=True)
        at += 4
        if size <= 0 or at + size > len(batch):
            raise _corrupt("snappy", f"a block has the length {size}")
        _snappy_block(batch[at : at + size], plain)
        at += size
    return plain


def _snappy_block(data: bytes, plain: bytearray) -> None:
    begin = len(plain)
    try:
        size = cramjam.snappy.decompress_raw_len(data)
        if begin + size > HEADER_BYTES + BATCH_BYTES:
            raise _too_large()
        plain.extend(bytes(size))
        with memoryview(plain) as view:
            cramjam.snappy.decompress_raw_into(data, view[begin:])
    except cramjam.DecompressionError as error:
        raise _corrupt("snappy", error) from error


def _framed(name: str, into: Into) -> Unpack:
    def unpack(batch: bytes) -> bytearray:
        head, data = batch[:HEADER_BYTES], batch[HEADER_BYTES:]
        for size in (min(BATCH_BYTES, 8 * len(data) + 65536), BATCH_BYTES):  # most batches need no 16 MB
            plain = bytearray(HEADER_BYTES + size)
            plain[:HEADER_BYTES] = head
            try:
                with memoryview(plain) as view:
                    end = HEADER_BYTES + into(data, view[HEADER_BYTES:])
            except cramjam.DecompressionError as error:
                if _FULL not in str(error):
                    raise _corrupt(name, error) from error
            else:
                del plain[end:]
                return plain
        raise _too_large()

    return unpack


def _too_large() -> BatchRefused:
    return BatchRefused("batch_too_large", f"it unpacks to more than {BATCH_BYTES} bytes")


def _corrupt(codec: str, why: Any) -> BatchRefused:
    return BatchRefused("batch_corrupt", f"its {codec} data cannot be unpacked: {why}"[:300])


_UNPACKERS: dict[int, Unpack] = {
    1: _gzip,
    2: _snappy,
    3: _framed("lz4", cramjam.lz4.decompress_into),
    4: _framed("zstd", cramjam.zstd.decompress_into),
}
