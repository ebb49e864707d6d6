"""A Kafka message with several events in structured mode: each has its own fate, once in effect."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.envelope import attributes, new_meta
from services.chassis.messaging import retry
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.messaging.messages import PART
from services.chassis.messaging.outbox import unpack_headers
from tests.integration.tiny.events import Ping
from tests.unit.chassis.records import Record, ping
from tests.unit.chassis.test_batch import notes, published, retry_now

BATCH = b"application/cloudevents-batch+json"


def envelope(number: int, do: str = "note", text: str = "", **changes: Any) -> dict[str, Any]:
    event = Ping(project="p", number=number, do=do, text=text)
    headers = attributes(new_meta(event, "test", f"id-{number}"))
    named = {name.removeprefix("ce_"): value for name, value in headers.items() if name.startswith("ce_")}
    return {**named, "data": json.loads(event.to_bytes()), **changes}


def message(*envelopes: Any, content: bytes | None = BATCH) -> Record:
    headers = [("content-type", content)] if content else []
    return Record(Ping.TOPIC, 0, 40, 1, b"p", json.dumps(envelopes).encode(), headers)


def test_each_event_of_a_batch_takes_effect_once(context: BatchContext) -> None:
    whole = message(envelope(1), envelope(2), envelope(1))
    first = take(context, [whole, ping(3)])
    again = take(context, [whole])
    assert first.fates["done", Ping.TOPIC, ""] == 3
    assert first.fates["duplicate", Ping.TOPIC, ""] == 1
    assert again.fates["duplicate", Ping.TOPIC, ""] == 3
    assert notes(context.engine) == [1, 2, 3]


def test_an_array_is_a_batch_whatever_it_is_called(context: BatchContext) -> None:
    for number, content in enumerate((None, b"application/json", b"application/cloudevents+json; charset=utf-8")):
        assert take(context, [message(envelope(number), content=content)]).fates["done", Ping.TOPIC, ""] == 1
    assert notes(context.engine) == [0, 1, 2]


def test_what_is_wrong_in_a_batch_dies_alone_and_by_its_place(context: BatchContext) -> None:
    result = take(context, [message(envelope(1), envelope(2, id=""), 7, envelope(3), envelope(4, type="other"))])
    assert result.fates["done", Ping.TOPIC, ""] == 2
    assert notes(context.engine) == [1, 3]
    dead = [row for row in published(context.engine) if row.topic.endswith(".dlq")]
    headers = [dict(unpack_headers(row.headers)) for row in dead]
    assert [(h["noria-reason"], h[PART]) for h in headers] == [
        (b"missing_attribute", b"1"),
        (b"not_json", b"2"),
        (b"wrong_type", b"4"),
    ]
    assert len({h["noria-id"] for h in headers}) == 3
    assert json.loads(dead[0].value)["data"]["number"] == 2
    assert take(context, [message(envelope(1), envelope(2, id=""))]).fates["dead", Ping.TOPIC, "missing_attribute"] == 0


def test_a_batch_that_is_none_is_one_dead_letter(context: BatchContext) -> None:
    odd = {"[]": "invalid_data", "[": "not_json", "{}": "unsupported", "[" + "1," * 10_000 + "1]": "too_many_events"}
    for offset, (value, reason) in enumerate(odd.items()):
        result = take(context, [replace(message(), value=value.encode(), offset=offset)])
        assert list(result.fates) == [("dead", Ping.TOPIC, reason)]


def test_an_event_of_a_batch_waits_and_is_tried_again_by_itself(context: BatchContext, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    whole = message(envelope(1, "wait", str(gate)), envelope(2))
    assert take(context, [whole]).fates == {("parked", Ping.TOPIC, "not_yet"): 1, ("parked", Ping.TOPIC, "behind"): 1}
    assert take(context, [whole]).fates == {("duplicate", Ping.TOPIC, ""): 2}
    gate.touch()
    retry_now(context.engine)
    assert retry.try_due(context) == 2
    assert notes(context.engine) == [1, 2], "the order of a key holds within a batch"
