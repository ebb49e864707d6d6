"""A job outlives what it stands on: its machine and disk, and a store that is away when its result is published."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tiny.stand import Stand, until


@pytest.fixture
def stand(kafka: str, database_url: str, tmp_path: Path) -> Iterator[Stand]:
    home = tmp_path / "a"
    home.mkdir()
    stand = Stand(kafka, database_url, home)
    stand.environment["NORIA_ARTIFACTS"] = (tmp_path / "store").as_uri()
    stand.make_topics()
    yield stand.start()
    stand.stop()


def elsewhere(stand: Stand, home: Path) -> Stand:
    """The same service on a machine of its own; database and store are shared."""
    home.mkdir()
    other = stand.twin()
    other.home, other.log = home, home / "other.log"
    other.environment["NORIA_HOME"] = str(home)
    return other


def checkpoint(stand: Stand) -> int:
    places = list(stand.home.glob("state/jobs/*/job*/step"))
    return int(places[0].read_text() or 0) if places else 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_another_instance_with_an_empty_disk_goes_on_from_the_store(stand: Stand, tmp_path: Path) -> None:
    stand.send(stand.ping_of(1, "work", "0.5 uploads"))
    until(lambda: checkpoint(stand), lambda step: step >= 5)
    stand.kill()
    shutil.rmtree(stand.home / "state" / "jobs")
    other = elsewhere(stand, tmp_path / "b").start(ready=False)
    ((number, text),) = stand.answers(1, 60).values()
    other.stop()
    begun = int(text.removeprefix("done from ").removesuffix(" to 10"))
    assert number == 1
    assert begun >= 1, "it went on from the store"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_store_that_is_away_when_the_result_is_published_comes_back(stand: Stand, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_text("a file where the store's folder was: nothing can be written below it")
    stand.send(stand.ping_of(1, "work", "0 publishes"))
    until(lambda: stand.figure("job_attempts"), lambda tries: tries >= 2)
    store.unlink()
    assert list(stand.answers(1, 60).values()) == [(1, "done from 10 to 10")]
