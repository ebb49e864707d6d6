"""Faults made on purpose in a real service are in its /metrics: a stuck partition, a still job, a parked message."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.observability.metrics import Metrics
from tests.integration.tiny.stand import Stand, until


@pytest.fixture
def stand(kafka: str, tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    stand.make_topics()
    yield stand.start()
    stand.stop()


def typed(text: str) -> set[str]:
    """The names of the figures; those that tell since when a counter counts are there once it has counted."""
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    return {name for name in names if not name.endswith("_created")}


def test_service_shows_every_figure_that_the_rules_read(stand: Stand) -> None:
    found = stand.get("/metrics")
    assert found is not None
    assert typed(found.text) == typed(Metrics(stand.name).text().decode())
    assert (stand.figure("group_member"), stand.figure("ready")) == (1, 3)
    assert stand.figure("disk_free_bytes") > 0


def test_partition_that_cannot_be_taken_stands_still_until_it_can(stand: Stand, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        stand.send(*(stand.ping_of(n) for n in range(5)))
        until(lambda: stand.figure("still_seconds"), lambda seconds: seconds > 6)
        assert stand.figure("lag") == 5
        other.execute("ROLLBACK")
    other.close()
    until(stand.notes, lambda found: len(found) == 5, 60)
    until(lambda: stand.figure("still_seconds"), lambda seconds: seconds == 0)


def test_still_job_and_parked_message_grow_old_and_are_forgotten_once_over(stand: Stand, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    stand.send(stand.ping_of(1, "wait", str(gate), key="a"), stand.ping_of(2, "work", "stubborn"))
    until(lambda: stand.figure("job_progress_age_seconds"), lambda age: age > 3)
    until(lambda: stand.figure("parked_age_seconds"), lambda age: age > 3)
    assert stand.figure("job_attempts") == 1
    assert stand.figure("job_heartbeat_age_seconds") < 4
    assert stand.figure("jobs") == 1
    gate.touch()
    stand.retry()
    stand.send(stand.ping_of(2, "cancel", id="c2"))
    assert stand.answers(2)
    until(lambda: stand.figure("parked_age_seconds"), lambda age: age == 0)
    until(lambda: stand.figure("job_progress_age_seconds") + stand.figure("job_attempts"), lambda age: age == 0)
    assert stand.figure("jobs") == 1, "the job still counts as running"
