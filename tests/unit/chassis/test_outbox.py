"""Rows of the outbox: bytes of any kind come back as they were; ids are the same at every redelivery."""

from datetime import UTC, datetime

from contracts.envelope import Event
from services.chassis.outbox import emitted, event_id, pack_headers, unpack_headers
from tests.integration.tiny.events import Pong

EVENTS: list[Event] = [Pong(project="p", number=1), Pong(project="p", number=2)]


def test_headers_of_any_bytes_survive() -> None:
    headers = [("a", bytes(range(256))), ("b", None), ("a", b"")]
    assert unpack_headers(pack_headers(headers)) == headers


def test_ids_depend_on_group_cause_and_place_alone() -> None:
    def ids(group: str, cause: tuple[str, str]) -> list[bytes | None]:
        rows = emitted(EVENTS, group=group, source="/noria/x", cause=cause, now=datetime.now(UTC))
        return [dict(unpack_headers(row[3]))["ce_id"] for row in rows]

    assert ids("g", ("s", "1")) == ids("g", ("s", "1")) == [event_id("g", "s", "1", n).encode() for n in (0, 1)]
    every = [*ids("g", ("s", "1")), *ids("h", ("s", "1")), *ids("g", ("t", "1")), *ids("g", ("s", "2"))]
    assert len(set(every)) == 8
