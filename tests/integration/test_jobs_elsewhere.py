"""A job outlives what it stands on: its machine and disk, and a store that is away when its result is published."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tiny.harness import Harness, until


@pytest.fixture
def harness(kafka: str, database_url: str, tmp_path: Path) -> Iterator[Harness]:
    home = tmp_path / "a"
    home.mkdir()
    harness = Harness(kafka, database_url, home)
    harness.environment["NORIA_ARTIFACTS"] = (tmp_path / "store").as_uri()
    harness.make_topics()
    yield harness.start()
    harness.stop()


def elsewhere(harness: Harness, home: Path) -> Harness:
    """The same service on a machine of its own; database and store are shared."""
    home.mkdir()
    other = harness.twin()
    other.home, other.log = home, home / "other.log"
    other.environment["NORIA_HOME"] = str(home)
    return other


def checkpoint(harness: Harness) -> int:
    places = list(harness.home.glob("state/jobs/*/job*/step"))
    return int(places[0].read_text() or 0) if places else 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_another_instance_with_an_empty_disk_goes_on_from_the_store(harness: Harness, tmp_path: Path) -> None:
    harness.send(harness.ping_of(1, "work", "0.5 uploads"))
    until(lambda: checkpoint(harness), lambda step: step >= 5)
    harness.kill()
    shutil.rmtree(harness.home / "state" / "jobs")
    other = elsewhere(harness, tmp_path / "b").start(ready=False)
    ((number, text),) = harness.answers(1, 60).values()
    other.stop()
    begun = int(text.removeprefix("done from ").removesuffix(" to 10"))
    assert number == 1
    assert begun >= 1, "it went on from the store"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_store_that_is_away_when_the_result_is_published_comes_back(harness: Harness, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_text("a file where the store's folder was: nothing can be written below it")
    harness.send(harness.ping_of(1, "work", "0 publishes"))
    until(lambda: harness.figure("job_attempts"), lambda tries: tries >= 2)
    store.unlink()
    assert list(harness.answers(1, 60).values()) == [(1, "done from 10 to 10")]
