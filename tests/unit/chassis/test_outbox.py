"""Rows of the outbox: bytes of any kind come back as they were; ids are the same at every redelivery."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from contracts.envelope import Event, Meta, encode
from services.chassis.messaging import outbox, relay
from services.chassis.messaging.outbox import emitted, event_id, event_row, pack_headers, unpack_headers
from services.chassis.storage.database import writing
from tests.integration.tiny.events import Pong

EVENTS: list[Event] = [Pong(project="p", number=1), Pong(project="p", number=2)]


def test_headers_of_any_bytes_survive() -> None:
    headers = [("a", bytes(range(256))), ("b", None), ("a", b"")]
    assert unpack_headers(pack_headers(headers)) == headers


def test_relay_takes_no_more_than_is_small_enough_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MOST_BYTES", 100)
    sizes = [150, 10, 60, 40, 1, 0, 99]
    with writing(engine) as connection:
        rows = [("t", b"k", bytes(size), "[]") for size in sizes[:-2]] + [
            ("t", b"k", None, "[]"),
            ("u", b"k", bytes(99), "[]"),
        ]
        outbox.put(connection, rows, datetime.now(UTC))
        taken: list[list[int]] = []
        while batch := relay.pending(connection, 10, ()):
            taken.append([len(row.value or b"") for row in batch])
            relay.settle(connection, [row.id for row in batch], [])
    assert taken == [[150], [10, 60], [40, 1, 0], [99]]


def test_ids_depend_on_group_cause_and_place_alone() -> None:
    def ids(group: str, cause: tuple[str, str]) -> list[bytes | None]:
        rows = emitted(EVENTS, group=group, source="/noria/x", cause=cause, now=datetime.now(UTC))
        return [dict(unpack_headers(row[3]))["ce_id"] for row in rows]

    assert ids("g", ("s", "1")) == ids("g", ("s", "1")) == [event_id("g", "s", "1", n).encode() for n in (0, 1)]
    every = [*ids("g", ("s", "1")), *ids("h", ("s", "1")), *ids("g", ("t", "1")), *ids("g", ("s", "2"))]
    assert len(set(every)) == 8


def test_headers_put_together_quickly_are_those_of_the_envelope() -> None:
    now = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for cause in ("plain", 'with "quotes" and \\', "übergroß ☃", "\x01"):
        (quick,) = emitted(EVENTS[:1], group="g", source="/ñ/x", cause=("s", cause), now=now, traceparent=trace)
        id = event_id("g", "s", cause, 0)
        meta = Meta(id, "/ñ/x", Pong.ce_type(), now, traceparent=trace, extensions={"causationid": cause})
        assert quick[:3] == event_row(EVENTS[0], meta)[:3]
        assert unpack_headers(quick[3]) == encode(EVENTS[0], meta)[2]
