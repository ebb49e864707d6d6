"""A batch with a header's name that is not UTF-8 is read whole; every other one as aiokafka reads it."""

from typing import Any

import pytest
from aiokafka.record import default_records

from services.chassis.patient import PatientRecords

Builder: Any = default_records._DefaultRecordBatchBuilderPy  # pyright: ignore[reportPrivateUsage]


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
    records = PatientRecords(data)
    found: list[tuple[int, bytes, Any]] = []
    while records.has_next():
        part = records.next_batch()
        assert part.validate_crc()
        found += [(record.offset, record.value, list(record.headers)) for record in part]
    return found


@pytest.mark.parametrize("compression", [0, 1])
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
