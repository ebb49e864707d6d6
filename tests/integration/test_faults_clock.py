"""A clock that jumps an hour forward and back under a running service: nothing doubled, nothing stands still."""

from collections import Counter
from pathlib import Path

from tests.chaos import world
from tests.integration.tiny.stand import Stand, until


def wrong_clock(stand: Stand, place: Path) -> None:
    """Lets the service take its clock's error from the file `place`."""
    stand.environment |= world.clock_variables(place) | {"FAKETIME_NO_CACHE": "1"}


def test_clock_that_jumps_an_hour_freezes_nothing(kafka: str, tmp_path: Path) -> None:
    clock, gate = tmp_path / "clock", tmp_path / "gate"
    stand = Stand(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    wrong_clock(stand, clock)
    clock.write_text("+0")
    stand.make_topics()
    stand.start()
    stand.send(*(stand.ping_of(n) for n in range(100)))
    until(stand.notes, lambda found: len(found) == 100)
    clock.write_text("+3600")
    stand.send(stand.ping_of(100, "wait", str(gate), key="waits"), stand.ping_of(101, key="waits"))
    stand.send(stand.ping_of(102, "work", "0.3", key="works"), *(stand.ping_of(n) for n in range(103, 200)))
    until(lambda: stand.figure("parked_waiting"), lambda waiting: waiting == 2)
    until(lambda: list(stand.home.glob(f"state/jobs/{stand.name}/job*/step")), bool)
    retry_at = stand.parked(limit=1)["items"][0]["retry_at"]
    clock.write_text("+0")
    stand.send(*(stand.ping_of(n) for n in range(200, 300)))
    until(stand.notes, lambda found: found[-1] == 299)
    gate.touch()  # not before: a try under the fast clock would find it open
    notes = until(stand.notes, lambda found: len(found) == 300, 40)
    assert [n for n in notes if n in (100, 101)] == [100, 101]
    assert Counter(number for number, _ in stand.answers(300, 20).values()) == Counter(range(300))
    assert [t for n, t in stand.answers(300).values() if n == 102] == ["done from 0 to 10"]
    until(stand.trouble, lambda trouble: trouble == "")
    stand.send(stand.ping_of(300))
    assert len(stand.answers(301, 10)) == 301
    stand.stop()
    assert _hours_apart(retry_at, tmp_path), "the clock of the service never jumped"


def _hours_apart(moment: str, place: Path) -> bool:
    from datetime import UTC, datetime, timedelta

    return datetime.fromisoformat(moment) - datetime.fromtimestamp(place.stat().st_mtime, UTC) > timedelta(minutes=50)
