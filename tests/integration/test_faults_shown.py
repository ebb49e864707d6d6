"""Faults made on purpose in a real service are in its /metrics: a stuck partition, a still job, a parked message."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.observability.metrics import Metrics
from tests.integration.tiny.harness import Harness, until


@pytest.fixture
def harness(kafka: str, tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    harness.make_topics()
    yield harness.start()
    harness.stop()


def typed(text: str) -> set[str]:
    """The names of the figures; those that tell since when a counter counts are there once it has counted."""
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    return {name for name in names if not name.endswith("_created")}


def test_service_shows_every_figure_that_the_rules_read(harness: Harness) -> None:
    found = harness.get("/metrics")
    assert found is not None
    assert typed(found.text) == typed(Metrics(harness.name).text().decode())
    assert (harness.figure("group_member"), harness.figure("ready")) == (1, 3)
    assert harness.figure("disk_free_bytes") > 0


def test_partition_that_cannot_be_taken_stands_still_until_it_can(harness: Harness, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        harness.send(*(harness.ping_of(n) for n in range(5)))
        until(lambda: harness.figure("still_seconds"), lambda seconds: seconds > 6)
        assert harness.figure("lag") == 5
        other.execute("ROLLBACK")
    other.close()
    until(harness.notes, lambda found: len(found) == 5, 60)
    until(lambda: harness.figure("still_seconds"), lambda seconds: seconds == 0)


def test_still_job_and_parked_message_grow_old_and_are_forgotten_once_over(harness: Harness, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    harness.send(harness.ping_of(1, "wait", str(gate), key="a"), harness.ping_of(2, "work", "stubborn"))
    until(lambda: harness.figure("job_progress_age_seconds"), lambda age: age > 3)
    until(lambda: harness.figure("parked_age_seconds"), lambda age: age > 3)
    assert harness.figure("job_attempts") == 1
    assert harness.figure("job_heartbeat_age_seconds") < 4
    assert harness.figure("jobs") == 1
    gate.touch()
    harness.retry()
    harness.send(harness.ping_of(2, "cancel", id="c2"))
    assert harness.answers(2)
    until(lambda: harness.figure("parked_age_seconds"), lambda age: age == 0)
    until(lambda: harness.figure("job_progress_age_seconds") + harness.figure("job_attempts"), lambda age: age == 0)
    assert harness.figure("jobs") == 0, "the job still counts as running"
    assert harness.figure("jobs_ended_total") == 1
