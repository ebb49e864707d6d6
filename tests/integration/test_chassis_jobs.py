"""Long jobs, their resumption on both databases: resumed after kills, given back, cancelled, failed; events once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tiny.stand import Stand, until


@pytest.fixture
def stand(kafka: str, tmp_path: Path) -> Iterator[Stand]:
    yield from running(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)


@pytest.fixture
def stand_on_each(kafka: str, database_url: str, tmp_path: Path) -> Iterator[Stand]:
    yield from running(kafka, database_url, tmp_path)


def running(kafka: str, database: str, home: Path) -> Iterator[Stand]:
    stand = Stand(kafka, database, home)
    stand.make_topics()
    yield stand.start()
    stand.stop()


def outcomes(stand: Stand, count: int) -> dict[int, str]:
    return dict(stand.answers(count, 90).values())


def step(stand: Stand, number: int) -> int:
    places = list(stand.home.glob(f"state/jobs/{stand.name}/job*{number}/step"))
    return int(places[0].read_text() or 0) if places else 0


def test_job_resumes_where_it_was_after_a_kill_of_the_service(stand_on_each: Stand) -> None:
    stand = stand_on_each
    stand.send(stand.ping_of(1, "work", "0.3"))
    until(lambda: step(stand, 1), lambda n: n >= 3)
    stand.kill()
    begun = step(stand, 1)
    stand.start(ready=False)
    outcome = outcomes(stand, 1)[1]
    assert outcome in (f"done from {begun} to 10", f"done from {begun + 1} to 10")
    assert not list(stand.home.glob(f"state/jobs/{stand.name}/job*"))


def test_job_is_given_back_when_the_service_stops(stand: Stand) -> None:
    stand.send(stand.ping_of(1, "work", "0.3"))
    until(lambda: step(stand, 1), lambda n: n >= 2)
    assert stand.stop() < 10
    begun = step(stand, 1)
    assert begun < 9
    stand.start(ready=False)
    assert outcomes(stand, 1)[1] == f"done from {begun} to 10"


def test_job_that_cannot_succeed_says_why(stand: Stand) -> None:
    stand.send(
        stand.ping_of(1, "work", "fails"),
        stand.ping_of(2, "work", "out-of-memory"),
        stand.ping_of(3, "work", "crashes"),
        stand.ping_of(4, "work", "no-number"),
    )
    assert outcomes(stand, 4) == {
        1: "failed no_luck",
        2: "failed killed",
        3: "failed crashed",
        4: "failed internal ValueError: could not convert string to float: 'no-number'",
    }


def test_job_is_cancelled_while_it_runs_and_before(stand: Stand) -> None:
    stand.send(stand.ping_of(1, "work", "stubborn"), stand.ping_of(2, "work", "0.1"))
    until(lambda: list(stand.home.glob("state/jobs/*/job*1")), bool)
    stand.send(stand.ping_of(2, "cancel", id="c2"), stand.ping_of(1, "cancel", id="c1"))
    assert outcomes(stand, 2) == {1: "failed cancelled", 2: "failed cancelled"}
