"""The three fates of a message, once in effect, on SQLite and PostgreSQL."""

import asyncio
import errno
import gc
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from contracts.envelope import Malformed, encode, new_meta
from services.chassis.context import Context
from services.chassis.errors import Park
from services.chassis.http import operations
from services.chassis.messaging import parking, retry
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.messaging.messages import routes
from services.chassis.messaging.outbox import OUTBOX, unpack_headers
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import reading, writing
from tests.integration.tiny.events import Ping
from tests.integration.tiny.service import SqlStore, TinySettings
from tests.unit.chassis.records import ping

STRUCTURED_HALF_PAIR = {
    "headers": [("content-type", b"application/cloudevents+json")],
    "value": rb'{"specversion": "1.0", "id": "\ud800", "source": "s", "type": "io.noria.tiny.ping.sent.v1", "data": {}}',
}
"""Its id is half of a surrogate pair: no database takes it, and the batch was tried again for ever."""


def notes(engine: Engine) -> list[int]:
    with reading(engine) as connection:
        return [number for (number,) in connection.execute(text("SELECT number FROM note ORDER BY place"))]


def published(engine: Engine) -> list[Any]:
    with reading(engine) as connection:
        return list(connection.execute(OUTBOX.select().order_by(OUTBOX.c.id)))


def retry_now(engine: Engine) -> None:
    with writing(engine) as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(parking.PARKED.update().values(retry_at=past))


def test_effect_and_event_stand_once_whatever_comes_twice(context: BatchContext) -> None:
    batch = [ping(1), ping(2), ping(1, offset=7)]
    first = take(context, batch)
    again = take(context, batch)
    assert first.fates["done", batch[0].topic, ""] == 2
    assert again.fates["duplicate", batch[0].topic, ""] == 3
    assert notes(context.engine) == [1, 2]
    assert len(published(context.engine)) == 2


def test_emitted_event_names_its_cause_and_keeps_the_trace(context: BatchContext) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    record = ping(1)
    take(context, [replace(record, headers=[*record.headers, ("traceparent", trace.encode())])])
    headers = dict(unpack_headers(published(context.engine)[0].headers))
    assert headers["ce_causationid"] == b"id-1"
    assert headers["ce_source"] == b"/noria/tiny"
    assert str(headers["traceparent"]).split("-")[1] == trace.split("-")[1]
    assert headers["traceparent"] != trace.encode()


def test_trace_that_is_none_adds_nothing_to_the_headers_of_what_is_emitted(context: BatchContext) -> None:
    """A quote in it broke the headers of the outbox row, and the relay refused the row for good."""
    for number, trace in enumerate(('00-"],["ce_id","forged"],["x","1234-b7ad6b7169203331-01', '00-"""-x-01')):
        record = ping(number)
        take(context, [replace(record, headers=[*record.headers, ("traceparent", trace.encode())])])
        names = [name for name, _ in unpack_headers(published(context.engine)[number].headers)]
        assert len(names) == len(set(names)) == 8


def test_dead_message_goes_to_its_topic_as_it_came_and_the_others_are_done(context: BatchContext) -> None:
    record = ping(2, "dead")
    strange = [*record.headers, ("x", b"\xff\x00"), ("y", None)]
    take(context, [ping(1), replace(record, headers=strange), ping(3)])
    assert notes(context.engine) == [1, 3]
    dead = [row for row in published(context.engine) if row.topic.endswith(".dlq")]
    assert [row.topic for row in dead] == [f"{record.topic}.tiny.main.dlq"]
    assert bytes(dead[0].value) == record.value
    headers = unpack_headers(dead[0].headers)
    assert headers[: len(strange)] == strange
    notes_of = dict(headers)
    assert notes_of["noria-reason"] == b"not_wanted"
    assert notes_of["noria-offset"] == b"2"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": None}, b"no_value"),
        ({"value": b"\xff\xfe"}, b"not_utf8"),
        ({"value": b"{"}, b"not_json"),
        ({"value": b"[" * 100_000}, b"too_deep"),
        ({"value": b"x" * 1_000_001}, b"too_large"),
        ({"value": b'{"project": 1}'}, b"invalid_data"),
        ({"headers": []}, b"missing_attribute"),
        ({"headers": [("ce_id", None)]}, b"bad_header"),
        ({"headers": [("ce_id", b"\xff")]}, b"bad_header"),
        (STRUCTURED_HALF_PAIR, b"bad_header"),
    ],
)
def test_malformed_message_is_dead_once(context: BatchContext, change: dict[str, Any], reason: bytes) -> None:
    broken = replace(ping(1), **change)
    for _ in range(2):
        take(context, [broken, ping(2)])
    dead = [row for row in published(context.engine) if row.topic.endswith(".dlq")]
    assert len(dead) == 1
    assert dict(unpack_headers(dead[0].headers))["noria-reason"] == reason
    assert dead[0].value == broken.value
    assert notes(context.engine) == [2]


def test_refused_batch_leaves_nothing_to_the_garbage_collector(context: BatchContext) -> None:
    """A traceback would hold every message of the batch until 10,000 other objects are there."""
    take(context, [ping(0)])
    gc.collect()
    gc.disable()
    try:
        take(context, [replace(ping(n), value=b"[" * 1000) for n in range(1, 9)])
        assert [found for found in gc.get_objects() if type(found) is Malformed] == []
    finally:
        gc.enable()


def test_parked_message_holds_back_its_key_alone(context: BatchContext, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    take(context, [ping(1, "wait", str(gate)), ping(2), ping(3, key="other")])
    take(context, [ping(4), ping(5, key="other")])
    assert notes(context.engine) == [3, 5]
    retry_now(context.engine)
    retry.try_due(context)
    assert notes(context.engine) == [3, 5]
    gate.touch()
    retry_now(context.engine)
    assert retry.try_due(context) == 3
    assert notes(context.engine) == [3, 5, 1, 2, 4]
    with reading(context.engine) as connection:
        assert parking.count(connection) == 0
        assert parking.earliest(connection, context.group, datetime.now(UTC), 60) is None


def test_parked_message_is_given_up_at_its_deadline_with_its_reason_and_its_lane_goes_on_in_order(
    context: BatchContext, tmp_path: Path
) -> None:
    take(
        context,
        [ping(1, "wait", str(tmp_path / "gate")), ping(2), ping(3, "wait", str(tmp_path / "gate"), key="other")],
    )
    take(context, [ping(4)])
    week = timedelta(days=context.park_days)
    with writing(context.engine) as connection:
        first = parking.PARKED.c.key == ping(1).key
        almost, late = (datetime.now(UTC) - week + timedelta(minutes=n) for n in (1, -1))
        connection.execute(parking.PARKED.update().where(~first).values(parked_at=almost))
        connection.execute(parking.PARKED.update().where(first).values(parked_at=late))
    retry_now(context.engine)
    retry.try_due(context)
    assert notes(context.engine) == [2, 4]
    (dead,) = [row for row in published(context.engine) if row.topic.endswith(".dlq")]
    assert "parked for 7 days" in dead.headers
    with reading(context.engine) as connection:
        (waits,) = parking.listing(connection, context.group, 0, 9)
    assert waits["reason"] in dead.headers
    assert parking.deadline(waits["parked_at"], context.park_days) > datetime.now(UTC)


def test_list_of_parked_messages_says_when_each_is_given_up(context: BatchContext, tmp_path: Path) -> None:
    take(context, [ping(1, "wait", str(tmp_path / "gate"))])
    settings = TinySettings(home=tmp_path, park_days=2.0)
    running = Context(settings, context.engine, SqlStore, open_store(settings), context.metrics)
    application = FastAPI()
    application.include_router(operations.make_router(running, lambda: None))
    (row,) = TestClient(application).get("/parked").json()["items"]
    parked_at, deadline = (datetime.fromisoformat(row[name]) for name in ("parked_at", "deadline"))
    assert deadline - parked_at == timedelta(days=2)
    retry_now(context.engine)
    retry.try_due(replace(context, routes={}))
    (row,) = TestClient(application).get("/parked").json()["items"]
    assert (row["reason"], row["deadline"]) == ("topic_not_handled", None)


def test_parked_message_of_a_topic_no_longer_handled_waits_and_holds_nobody_up(
    context: BatchContext, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    take(context, [ping(1, "wait", str(gate)), ping(2, "wait", str(gate), key="other")])
    gate.touch()
    retry_now(context.engine)
    without = {topic: route for topic, route in context.routes.items() if topic != ping(1).topic}
    retry.try_due(replace(context, routes=without))
    with reading(context.engine) as connection:
        reasons = {row.reason for row in connection.execute(parking.PARKED.select())}
    assert (notes(context.engine), reasons) == ([], {"topic_not_handled"})
    retry_now(context.engine)
    retry.try_due(context)
    assert sorted(notes(context.engine)) == [1, 2]


def test_parked_message_is_no_longer_new(context: BatchContext, tmp_path: Path) -> None:
    batch = [ping(1, "wait", str(tmp_path / "gate"))]
    take(context, batch)
    take(context, batch)
    with reading(context.engine) as connection:
        assert parking.count(connection) == 1


def test_handler_that_keeps_failing_makes_the_message_dead(context: BatchContext) -> None:
    take(context, [ping(1, "bug"), ping(2)])
    for _ in range(2):
        retry_now(context.engine)
        retry.try_due(context)
    assert notes(context.engine) == [2]
    dead = [row for row in published(context.engine) if row.topic.endswith(".dlq")]
    assert dict(unpack_headers(dead[0].headers))["noria-reason"] == b"handler_failed"


def dead_reasons(engine: Engine) -> list[bytes | None]:
    rows = [row for row in published(engine) if row.topic.endswith(".dlq")]
    return [dict(unpack_headers(row.headers))["noria-reason"] for row in rows]


@pytest.mark.parametrize("together", [True, False])
def test_other_body_under_an_id_seen_before_is_dead_once_and_redelivery_a_duplicate(
    context: BatchContext, together: bool
) -> None:
    known, other = ping(1), replace(ping(1, offset=8), value=ping(2).value)
    batches = [[known, other]] if together else [[known], [other]]
    fates = [take(context, batch).fates for batch in [*batches, [known, other], [other, ping(3)]]]
    assert dead_reasons(context.engine) == [b"id_conflict"]
    assert sum(found["duplicate", known.topic, ""] for found in fates) == 3
    assert notes(context.engine) == [1, 3]


def test_event_serialised_anew_is_the_same_event(context: BatchContext) -> None:
    """Compared by bytes it was a conflict, and a dead letter."""
    first = ping(1, text="caf\u00e9")
    data = json.loads(first.value or b"")
    anew = json.dumps({**dict(reversed(data.items())), "number": 1.0}, indent=2).encode()
    attributes = {
        "specversion": "1.0",
        "id": "id-1",
        "source": "test",
        "type": Ping.ce_type(),
        "time": "2026-01-31T00:00:00Z",
    }
    structured = json.dumps({"data": data, **attributes}).encode()
    take(context, [first, replace(first, offset=8, value=anew)])
    header = [("content-type", b"application/cloudevents+json")]
    result = take(context, [replace(first, offset=9, headers=header, value=structured), replace(first, value=anew)])
    assert result.fates["duplicate", first.topic, ""] == 2
    other = json.dumps({"data": {**data, "number": 2}, **attributes}).encode()
    take(context, [replace(first, offset=10, headers=header, value=other)])
    assert dead_reasons(context.engine) == [b"id_conflict"]
    assert notes(context.engine) == [1]


def test_no_event_takes_the_identity_of_a_malformed_message(context: BatchContext) -> None:
    """An event whose source and id spelt a place made the message there a duplicate: it vanished."""
    event = Ping(project="p", number=2)
    _, _, headers = encode(event, new_meta(event, f"kafka:{Ping.TOPIC}", "0/1/1"))
    take(context, [replace(ping(2), headers=headers), replace(ping(1), value=b"{")])
    assert dead_reasons(context.engine) == [b"not_json"]


def test_other_body_is_told_in_the_pass_with_savepoints(context: BatchContext) -> None:
    take(context, [ping(1), replace(ping(1, offset=8), value=ping(2).value), ping(4, "dead")])
    assert sorted(filter(None, dead_reasons(context.engine))) == [b"id_conflict", b"not_wanted"]
    assert notes(context.engine) == [1]


def test_parked_message_with_another_body_is_dead_and_the_same_a_duplicate(
    context: BatchContext, tmp_path: Path
) -> None:
    waiting = ping(1, "wait", str(tmp_path / "gate"))
    take(context, [waiting])
    take(context, [replace(waiting, offset=9), replace(waiting, offset=10, value=ping(2).value)])
    assert dead_reasons(context.engine) == [b"id_conflict"]
    with reading(context.engine) as connection:
        assert parking.count(connection) == 1


def test_row_older_than_the_digests_knows_no_conflict(context: BatchContext) -> None:
    take(context, [ping(1)])
    with writing(context.engine) as connection:
        connection.execute(text("UPDATE inbox SET digest = NULL"))
    result = take(context, [replace(ping(1), value=ping(2).value)])
    assert result.fates["duplicate", ping(1).topic, ""] == 1


def test_value_that_the_database_never_takes_is_dead_at_once(context: BatchContext) -> None:
    take(context, [ping(1), ping(2, text="a\x00b"), ping(3)])
    kept = context.engine.dialect.name == "sqlite"
    assert notes(context.engine) == ([1, 2, 3] if kept else [1, 3])
    assert dead_reasons(context.engine) == ([] if kept else [b"unstorable"])


def test_pause_doubles_up_to_the_longest() -> None:
    assert [parking.pause(n, 60).total_seconds() for n in (1, 2, 3, 8, 100)] == [0.5, 1, 2, 60, 60]


def test_batch_that_the_database_refuses_leaves_nothing(context: BatchContext) -> None:
    def away(session: Any) -> Any:
        raise ConnectionError("no database")

    with pytest.raises(ConnectionError):
        take(replace(context, store=away), [ping(1)])
    assert published(context.engine) == []
    take(context, [ping(1)])
    assert notes(context.engine) == [1]


def test_wait_for_a_passing_fault_uses_up_no_try_of_an_unexpected_one(context: BatchContext, tmp_path: Path) -> None:
    """Found by test_machine_messages: a long wait, then one fault, and the message was given up at once."""
    world = {"fault": Park("not_yet", "not yet")}

    def on_ping(event: Any, meta: Any, store: Any) -> list[Any]:
        raise world["fault"]

    context = replace(context, routes=routes({Ping: on_ping}))
    take(context, [ping(1)])
    for _ in range(5):
        retry_now(context.engine)
        retry.try_due(context)
    world["fault"] = ValueError("once")  # pyright: ignore[reportArgumentType]
    for tries in (1, 2):
        retry_now(context.engine)
        retry.try_due(context)
        with reading(context.engine) as connection:
            assert parking.listing(connection, context.group, 0, 9)[0]["attempts"] == tries
    retry_now(context.engine)
    retry.try_due(context)
    assert [row.topic.endswith(".dlq") for row in published(context.engine)] == [True]


def test_clock_set_back_freezes_no_parked_message(context: BatchContext, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    take(context, [ping(1, "wait", str(gate)), ping(2)])
    gate.touch()
    now = datetime.now(UTC)
    with writing(context.engine) as connection:
        connection.execute(parking.PARKED.update().values(retry_at=now + timedelta(hours=1)))
        assert parking.earliest(connection, context.group, now, context.longest_pause) == now
    assert retry.try_due(context) == 2
    assert notes(context.engine) == [1, 2]


def test_fault_whose_text_no_database_takes_parks_its_message_alone(context: BatchContext) -> None:
    """PostgreSQL refused the NUL in the detail, and the batch was tried again for ever."""

    def on_ping(event: Any, meta: Any, store: Any) -> list[Any]:
        if event.number == 1:
            raise ValueError("nul \x00 half \ud800")
        store.note(event.number, "")
        return []

    context = replace(context, routes=routes({Ping: on_ping}))
    take(context, [ping(1, key="a"), ping(2, key="b")])
    assert notes(context.engine) == [2]
    for _ in range(2):
        retry_now(context.engine)
        retry.try_due(context)
    assert [row.topic.endswith(".dlq") for row in published(context.engine)] == [True]


def test_key_and_identity_of_any_length_stop_no_partition(context: BatchContext, tmp_path: Path) -> None:
    """PostgreSQL's indexes hold 2,704 bytes: a longer key could not be parked, and the batch came again for ever."""
    key = random.Random(1).randbytes(5000)
    wide = replace(ping(1, "wait", str(tmp_path / "gate")), key=key)
    far = "".join(chr(0x1F600 + random.Random(n).randrange(64)) for n in range(200))
    headers = [("ce_source", (far * 3)[:500].encode()), *(h for h in ping(2).headers if h[0] != "ce_source")]
    headers = [("ce_id", far.encode()), *(h for h in headers if h[0] != "ce_id")]
    take(context, [wide, replace(ping(2), headers=headers), ping(3)])
    assert 3 in notes(context.engine)
    dead = [row for row in published(context.engine) if row.topic.endswith(".dlq")]
    assert [dict(unpack_headers(row.headers))["noria-reason"] for row in dead] == [b"bad_key", b"bad_header"]
    assert bytes(dead[0].key) == key


def test_what_is_parked_while_the_parking_is_looked_through_is_seen_at_once(
    context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wake was forgotten after the look, and the message waited for half a minute."""
    changed, twice, looks = asyncio.Event(), asyncio.Event(), list[str]()

    def work(_: BatchContext) -> None:
        looks.append("look")
        loop.call_soon_threadsafe((changed if len(looks) == 1 else twice).set)

    async def main() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(retry.keep_retrying(context, changed, lambda jobs: None))
        await asyncio.wait_for(twice.wait(), 5)
        task.cancel()

    loop: Any = None
    monkeypatch.setattr(retry, "_work", work)
    asyncio.run(main())
    assert len(looks) >= 2


def test_handler_on_a_full_disk_waits_for_room_however_often_it_is_tried(context: BatchContext) -> None:
    room: list[str] = []

    def on_ping(event: Any, meta: Any, store: Any) -> list[Any]:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        store.note(event.number, "")
        return []

    context = replace(context, routes=routes({Ping: on_ping}))
    take(context, [ping(1)])
    for _ in range(context.attempts + 2):
        retry_now(context.engine)
        retry.try_due(context)
    with reading(context.engine) as connection:
        assert [row["reason"] for row in parking.listing(connection, context.group, 0, 9)] == ["disk_full"]
    room.append("room")
    retry_now(context.engine)
    retry.try_due(context)
    assert notes(context.engine) == [1]
