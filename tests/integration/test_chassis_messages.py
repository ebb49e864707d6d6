"""The fates of messages on a real broker and on both databases: once in effect, dead, parked; kills in between."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tiny.harness import Harness, header, until


@pytest.fixture
def harness(kafka: str, database_url: str, tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(kafka, database_url, tmp_path)
    harness.make_topics()
    yield harness
    harness.stop()


def test_each_message_has_one_effect_through_duplicates_and_kills(harness: Harness) -> None:
    total = 1500
    harness.start()
    harness.send(*(harness.ping_of(n % total, key=f"k{n % 7}") for n in range(0, total, 2)))
    harness.send(*(harness.ping_of(n % total, key=f"k{n % 7}") for n in range(total)))
    until(harness.notes, lambda found: len(found) > 50)
    for _ in range(2):
        harness.kill()
        harness.start(ready=False)
        harness.send(*(harness.ping_of(n, key=f"k{n % 7}") for n in range(0, total, 5)))
    notes = until(harness.notes, lambda found: len(found) >= total, 60)
    until(harness.lag, lambda lag: lag == 0)
    assert Counter(harness.notes()) == Counter(range(total))
    assert len(notes) == total
    assert Counter(number for number, _ in harness.answers(total).values()) == Counter(range(total))
    until(lambda: harness.figure("outbox_waiting"), lambda waiting: waiting == 0)
    assert harness.stop() < 10


def test_what_cannot_be_read_is_dead_and_the_rest_goes_on(harness: Harness) -> None:
    harness.start()
    _, value, headers = harness.ping_of(1)
    broken = [
        (None, None, []),
        (b"k", value, []),
        (b"k", value, [("ce_id", None), *headers[2:]]),
        (b"k", value, [("ce_type", b"\xff\xfe"), *headers[:3]]),
        (b"k", value, [*headers[:3], ("ce_type", b"io.noria.something.else.v1")]),
        (b"k", b"\xff\xfe\x00", headers),
        (b"k", b"{not json", headers),
        (b"k", b"[" * 50_000, headers),
        (b"k", b'"' + b"x" * 900_000 + b'"', headers),
        (b"k", b'{"project": {"a": 1}}', headers),
        (b"k", value, [*headers, ("reply_to", b"somewhere")]),
    ]
    harness.send_foreign_header()
    harness.send(*broken, harness.ping_of(2), harness.ping_of(3, "dead"))
    until(harness.notes, lambda found: sorted(found) == [1, 2])

    dead = harness.read(harness.dead, lambda found: len(found) >= 12)
    reasons = Counter(header(m, "noria-reason") for m in dead)
    assert reasons == {
        "no_value": 1,
        "missing_attribute": 2,
        "bad_header": 2,
        "wrong_type": 1,
        "not_utf8": 1,
        "not_json": 1,
        "too_deep": 1,
        "invalid_data": 2,
        "not_wanted": 1,
    }
    assert {m.value() for m in dead} >= {b"", b"\xff\xfe\x00", broken[8][1]}
    until(harness.lag, lambda lag: lag == 0)
    assert harness.figure("dead_total") == 12


def test_order_by_key_holds_while_an_older_message_waits(harness: Harness, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    harness.start()
    harness.send(harness.ping_of(0, "wait", str(gate), key="a"), *(harness.ping_of(n, key="a") for n in range(1, 40)))
    harness.send(*(harness.ping_of(100 + n, key="b") for n in range(5)))
    until(harness.notes, lambda found: found == [100, 101, 102, 103, 104])
    until(lambda: harness.figure("parked_waiting"), lambda waiting: waiting == 40)
    until(harness.lag, lambda lag: lag == 0)
    harness.kill()
    harness.start()
    harness.send(*(harness.ping_of(n, key="a") for n in range(40, 60)))
    assert [item["reason"] for item in harness.parked(limit=2)["items"]] == ["not_yet", "behind"]
    gate.touch()
    assert harness.retry()["hastened"] >= 40
    until(harness.notes, lambda found: [n for n in found if n < 100] == list(range(60)))
    assert harness.figure("parked_waiting") == 0


def test_handler_that_fails_is_tried_again_and_then_dead(harness: Harness) -> None:
    harness.start()
    harness.send(harness.ping_of(1, "bug"), harness.ping_of(2), harness.ping_of(3))
    until(harness.notes, lambda found: found == [2, 3])
    dead = harness.read(harness.dead, lambda found: len(found) == 1)
    assert header(dead[0], "noria-reason") == "handler_failed"
