"""A clock that jumps an hour forward and back under a running service: nothing doubled, nothing stands still."""

from collections import Counter
from pathlib import Path

from tests.chaos import sandbox
from tests.integration.tiny.harness import Harness, until


def wrong_clock(harness: Harness, place: Path) -> None:
    """Lets the service take its clock's error from the file `place`."""
    harness.environment |= sandbox.clock_variables(place) | {"FAKETIME_NO_CACHE": "1"}


def test_clock_that_jumps_an_hour_freezes_nothing(kafka: str, tmp_path: Path) -> None:
    clock, gate = tmp_path / "clock", tmp_path / "gate"
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    wrong_clock(harness, clock)
    clock.write_text("+0")
    harness.make_topics()
    harness.start()
    harness.send(*(harness.ping_of(n) for n in range(100)))
    until(harness.notes, lambda found: len(found) == 100)
    clock.write_text("+3600")
    harness.send(harness.ping_of(100, "wait", str(gate), key="waits"), harness.ping_of(101, key="waits"))
    harness.send(harness.ping_of(102, "work", "0.3", key="works"), *(harness.ping_of(n) for n in range(103, 200)))
    until(lambda: harness.figure("parked_waiting"), lambda waiting: waiting == 2)
    until(lambda: list(harness.home.glob(f"state/jobs/{harness.name}/job*/step")), bool)
    retry_at = harness.parked(limit=1)["items"][0]["retry_at"]
    clock.write_text("+0")
    harness.send(*(harness.ping_of(n) for n in range(200, 300)))
    until(harness.notes, lambda found: found[-1] == 299)
    gate.touch()  # not before: a try under the fast clock would find it open
    notes = until(harness.notes, lambda found: len(found) == 300, 40)
    assert [n for n in notes if n in (100, 101)] == [100, 101]
    assert Counter(number for number, _ in harness.answers(300, 20).values()) == Counter(range(300))
    assert [t for n, t in harness.answers(300).values() if n == 102] == ["done from 0 to 10"]
    until(harness.trouble, lambda trouble: trouble == "")
    harness.send(harness.ping_of(300))
    assert len(harness.answers(301, 10)) == 301
    harness.stop()
    assert _hours_apart(retry_at, tmp_path), "the clock of the service never jumped"


def _hours_apart(moment: str, place: Path) -> bool:
    from datetime import UTC, datetime, timedelta

    return datetime.fromisoformat(moment) - datetime.fromtimestamp(place.stat().st_mtime, UTC) > timedelta(minutes=50)
