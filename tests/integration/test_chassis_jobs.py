"""Long jobs, their resumption on both databases: resumed after kills, given back, cancelled, failed; events once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tiny.harness import Harness, until


@pytest.fixture
def harness(kafka: str, tmp_path: Path) -> Iterator[Harness]:
    yield from running(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)


@pytest.fixture
def harness_on_each(kafka: str, database_url: str, tmp_path: Path) -> Iterator[Harness]:
    yield from running(kafka, database_url, tmp_path)


def running(kafka: str, database: str, home: Path) -> Iterator[Harness]:
    harness = Harness(kafka, database, home)
    harness.make_topics()
    yield harness.start()
    harness.stop()


def outcomes(harness: Harness, count: int) -> dict[int, str]:
    return dict(harness.answers(count, 90).values())


def step(harness: Harness, number: int) -> int:
    places = list(harness.home.glob(f"state/jobs/{harness.name}/job*{number}/step"))
    return int(places[0].read_text() or 0) if places else 0


def test_job_resumes_where_it_was_after_a_kill_of_the_service(harness_on_each: Harness) -> None:
    harness = harness_on_each
    harness.send(harness.ping_of(1, "work", "0.3"))
    until(lambda: step(harness, 1), lambda n: n >= 3)
    harness.kill()
    begun = step(harness, 1)
    harness.start(ready=False)
    outcome = outcomes(harness, 1)[1]
    assert outcome in (f"done from {begun} to 10", f"done from {begun + 1} to 10")
    assert not list(harness.home.glob(f"state/jobs/{harness.name}/job*"))


def test_job_is_given_back_when_the_service_stops(harness: Harness) -> None:
    harness.send(harness.ping_of(1, "work", "0.3"))
    until(lambda: step(harness, 1), lambda n: n >= 2)
    assert harness.stop() < 10
    begun = step(harness, 1)
    assert begun < 9
    harness.start(ready=False)
    assert outcomes(harness, 1)[1] == f"done from {begun} to 10"


def test_job_that_cannot_succeed_says_why(harness: Harness) -> None:
    harness.send(
        harness.ping_of(1, "work", "fails"),
        harness.ping_of(2, "work", "out-of-memory"),
        harness.ping_of(3, "work", "crashes"),
        harness.ping_of(4, "work", "no-number"),
    )
    assert outcomes(harness, 4) == {
        1: "failed no_luck",
        2: "failed killed",
        3: "failed crashed",
        4: "failed internal ValueError: could not convert string to float: 'no-number'",
    }


def test_job_is_cancelled_while_it_runs_and_before(harness: Harness) -> None:
    harness.send(harness.ping_of(1, "work", "stubborn"), harness.ping_of(2, "work", "0.1"))
    until(lambda: list(harness.home.glob("state/jobs/*/job*1")), bool)
    harness.send(harness.ping_of(2, "cancel", id="c2"), harness.ping_of(1, "cancel", id="c1"))
    assert outcomes(harness, 2) == {1: "failed cancelled", 2: "failed cancelled"}
