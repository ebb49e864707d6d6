"""Rows of the outbox: bytes of any kind come back as they were; ids are the same at every redelivery."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
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


@given(st.lists(st.text("a0\\", max_size=2), min_size=4, max_size=6), st.data())
def test_no_two_causes_have_one_id(words: list[str], data: st.DataObject) -> None:
    """One text cut at its separators in two ways: all that a join could confuse."""

    def cut() -> tuple[str, str, str]:
        first = data.draw(st.integers(1, len(words) - 2))
        second = data.draw(st.integers(first + 1, len(words) - 1))
        return "|".join(words[:first]), "|".join(words[first:second]), "|".join(words[second:])

    one, other = cut(), cut()
    assert (event_id(*one, 0) == event_id(*other, 0)) == (one == other)


def test_parts_that_hold_the_separator_are_told_apart_and_published_ids_stand() -> None:
    """("s|1", "2") and ("s", "1|2") had one id, so that the second event was dropped as a duplicate."""
    assert event_id("g", "s|1", "2", 0) != event_id("g", "s", "1|2", 0)
    assert event_id("g", "s", "1|2", 0) == "4003cfa7-583e-5902-a65f-1cdd37e2a389"


def test_headers_put_together_quickly_are_those_of_the_envelope() -> None:
    now = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for cause in ("plain", 'with "quotes" and \\', "übergroß ☃", "\x01"):
        (quick,) = emitted(EVENTS[:1], group="g", source="/ñ/x", cause=("s", cause), now=now, traceparent=trace)
        id = event_id("g", "s", cause, 0)
        meta = Meta(id, "/ñ/x", Pong.ce_type(), now, traceparent=trace, extensions={"causationid": cause})
        assert quick[:3] == event_row(EVENTS[0], meta)[:3]
        assert unpack_headers(quick[3]) == encode(EVENTS[0], meta)[2]
