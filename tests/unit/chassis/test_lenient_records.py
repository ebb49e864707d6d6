"""A batch with a header's name that is not UTF-8 is read whole, a bomb or a corrupt one refused, and none raises."""

import tracemalloc
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pytest
from aiokafka.record import default_records
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.messaging.kafka import decompression as bounded
from services.chassis.messaging.kafka.aiokafka_patches import KEPT_BYTES, TESTED, LenientRecords
from services.chassis.messaging.kafka.topics import MAX_REQUEST
from services.chassis.messaging.messages import dead_letter_row
from services.chassis.messaging.outbox import unpack_headers
from tests.unit.chassis.records import Record

Builder: Any = default_records._DefaultRecordBatchBuilderPy  # pyright: ignore[reportPrivateUsage]


CODECS = (1, 2, 3, 4)
"""gzip, snappy, lz4, zstd."""
HEADER = 61


class Foreign(str):
    """A name that another client wrote in bytes of its own."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


def batch(*names: str, compression: int = 0) -> bytes:
    builder = Builder(2, compression, False, -1, -1, -1, 1 << 20)
    for offset, name in enumerate(names):
        builder.append(offset, 1000, b"k", b"v%d" % offset, [(name, b"1"), ("null", None)])
    return bytes(builder.build())


def unpack(data: bytes) -> list[tuple[int, bytes, Any]]:
    records = LenientRecords(data)
    found: list[tuple[int, bytes, Any]] = []
    while records.has_next():
        part = records.next_batch()
        assert part.validate_crc()
        found += [(record.offset, record.value, list(record.headers)) for record in part]
    return found


@pytest.mark.parametrize("compression", [0, *CODECS])
def test_foreign_name_is_escaped_and_its_neighbours_are_read(compression: int) -> None:
    data = batch("a", Foreign("x"), "ü", compression=compression) + batch("next")
    assert unpack(data) == [
        (0, b"v0", [("a", b"1"), ("null", None)]),
        (1, b"v1", [("\\xff\\xfe", b"1"), ("null", None)]),
        (2, b"v2", [("ü", b"1"), ("null", None)]),
        (0, b"v0", [("next", b"1"), ("null", None)]),
    ]


def test_half_a_batch_at_the_end_is_left_for_the_next_fetch() -> None:
    whole = batch("a")
    assert len(unpack(whole + batch("b")[:-5])) == 1


def large(compression: int, *sizes: int) -> bytes:
    builder = Builder(2, compression, False, -1, -1, -1, 1 << 30)
    for offset, size in enumerate(sizes):
        builder.append(offset, 1000, b"k", bytes(size), [])
    return bytes(builder.build())


@pytest.mark.parametrize("compression", CODECS)
def test_bomb_is_one_refusal_at_its_last_offset_and_is_never_unpacked(compression: int) -> None:
    data = large(compression, *[1_000_000] * 60)
    tracemalloc.start()
    try:
        found = unpack(data + batch("next"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(offset, type(value)) for offset, value, _ in found] == [(59, bounded.Unread), (0, bytes)]
    value: Any = found[0][1]
    assert (value.reason, value) == ("batch_too_large", data[:KEPT_BYTES])
    assert peak < 3 * bounded.BATCH_BYTES


@pytest.mark.parametrize("compression", CODECS)
def test_batch_below_the_bound_is_read(compression: int) -> None:
    found = unpack(large(compression, *[1_000_000] * 16))
    assert [(offset, len(value)) for offset, value, _ in found] == [(n, 1_000_000) for n in range(16)]


@pytest.mark.parametrize("compression", CODECS)
def test_record_that_no_topic_takes_uncompressed_is_refused(compression: int) -> None:
    ((_, value, _),) = unpack(large(compression, 100, bounded.RECORD_BYTES + 1))
    assert getattr(value, "reason") == "batch_too_large"  # noqa: B009 - an Unread


@pytest.mark.parametrize("compression", [0, *CODECS])
def test_batch_of_more_records_than_make_sense_is_one_refusal(compression: int) -> None:
    (last, value, _), (_, good, _) = unpack(large(compression, *[0] * (bounded.RECORDS + 1)) + batch("next"))
    assert (getattr(value, "reason"), last, good) == ("batch_too_large", bounded.RECORDS, b"v0")  # noqa: B009


@pytest.mark.parametrize("compression", CODECS)
def test_largest_record_that_is_taken_fits_into_its_dead_letter(compression: int) -> None:
    ((offset, value, headers),) = unpack(large(compression, bounded.RECORD_BYTES - 20))
    raw = Record("t.v1", 0, offset, 1, b"k", value, headers)
    _, key, kept, notes = dead_letter_row(raw, "g.main", "too_large", "\N{SNOWMAN}" * 2000, datetime.now(UTC))
    assert kept == value
    assert Builder.estimate_size_in_bytes(key, kept, unpack_headers(notes)) < MAX_REQUEST


@pytest.mark.parametrize("compression", CODECS)
def test_record_of_more_headers_than_make_sense_is_never_parsed(compression: int) -> None:
    def of(count: int) -> bytes:
        builder = Builder(2, compression, False, -1, -1, -1, 1 << 30)
        builder.append(0, 1 << 60, None, bytes(70_000), [("", None)] * count)
        return bytes(builder.build())

    ((_, refused, _), (_, value, headers)) = unpack(of(bounded.HEADERS + 1) + of(bounded.HEADERS))
    assert getattr(refused, "reason") == "batch_too_large"  # noqa: B009 - an Unread
    assert (len(value), len(headers)) == (70_000, bounded.HEADERS)


def sealed(data: bytes) -> bytes:
    """The batch with its length and CRC made right, as a broker would have checked them."""
    framed = data[:8] + (len(data) - 12).to_bytes(4, "big") + data[12:]
    return framed[:17] + calc_crc32c(framed[21:]).to_bytes(4, "big") + framed[21:]


@pytest.mark.parametrize("compression", CODECS)
def test_data_cut_short_is_refused_and_the_next_batch_is_read(compression: int) -> None:
    cut = sealed(large(compression, 5000, 5000)[:-7])
    (_, refused, _), (_, good, _) = unpack(cut + batch("next"))
    assert (getattr(refused, "reason"), good) == ("batch_corrupt", b"v0")  # noqa: B009 - an Unread


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("count", [1, 3])
def test_batch_of_other_records_than_it_says_is_one_refusal(compression: int, count: int) -> None:
    data = large(compression, 100, 100)
    lying = sealed(data[: HEADER - 4] + count.to_bytes(4, "big") + data[HEADER:])
    ((_, refused, _),) = unpack(lying)
    assert getattr(refused, "reason") == "batch_corrupt"  # noqa: B009 - an Unread
    assert f"not that of {count} records" in getattr(refused, "detail")  # noqa: B009


def test_records_before_the_corrupt_one_are_read() -> None:
    data = bytearray(batch("a", "b"))
    data[-20] ^= 0x7F
    found = unpack(sealed(bytes(data)))
    assert (found[0][:2], found[-1][0]) == ((0, b"v0"), 1)
    assert isinstance(found[-1][1], bounded.Unread)


OVERLONG = st.sampled_from(
    [b"\xff" * 9 + b"\x01", b"\xfe" + b"\xff" * 8 + b"\x01", b"\xfe\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x0f"]
)
"""The largest and smallest numbers of 64 and of 32 bits."""


@given(
    compression=st.sampled_from([0, *CODECS]),
    cuts=st.lists(
        st.tuples(st.integers(0, 400), st.binary(max_size=4) | OVERLONG, st.integers(0, 3)), min_size=1, max_size=4
    ),
    codec=st.none() | st.integers(0, 7),
)
def test_mangled_records_never_raise(compression: int, cuts: list[tuple[int, bytes, int]], codec: int | None) -> None:
    whole = batch("a" * 300, "b" * 300, "ü" * 300, compression=compression)
    head, body = whole[:HEADER], whole[HEADER:]
    for place, new, gone in cuts:
        at = place % (len(body) + 1)
        body = body[:at] + new + body[at + gone :]
    if codec is not None:
        head = head[:22] + bytes([codec]) + head[23:]
    found = unpack(sealed(head + body) + batch("next"))
    assert found[-1][:2] == (0, b"v0")
    assert sum(isinstance(value, bounded.Unread) for _, value, _ in found) <= 1


def test_the_replaced_internals_are_of_the_installed_release() -> None:
    """A new aiokafka needs a look at what aiokafka_patches replaces, and these tests to hold on it."""
    assert version("aiokafka").startswith(TESTED)
