"""What a job leaves: folders that are kept for a time, checkpoints in the store that another machine goes on from."""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.types import ArtifactRef
from services.chassis.errors import ArtifactUnavailable
from services.chassis.jobs import checkpoints, workdirs
from services.chassis.jobs.checkpoints import Uploader
from services.chassis.settings import Settings
from services.chassis.storage.artifacts import ArtifactStore

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=9)


class Told(list[dict[str, Any]]):
    """What a job reports; `wait` until there is so much."""

    def __init__(self) -> None:
        super().__init__()
        self._more = threading.Condition()

    def hear(self, message: dict[str, Any]) -> None:
        with self._more:
            self.append(message)
            self._more.notify_all()

    def wait(self, count: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self) >= count, 10)


class Away(ArtifactStore):
    """A store that does not answer while `away`."""

    away = True

    def put_file(self, path: Path) -> ArtifactRef:
        if self.away:
            raise ArtifactUnavailable("no answer")
        return super().put_file(path)

    def get(self, ref: ArtifactRef) -> Path:
        if self.away:
            raise ArtifactUnavailable("no answer")
        return super().get(ref)


@pytest.fixture
def store(tmp_path: Path) -> Away:
    store = Away((tmp_path / "store").as_uri(), tmp_path / "cache")
    store.away = False
    return store


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def saved(work: Path, step: int, text: str = "") -> dict[str, Path]:
    place = work / f"checkpoint-{step}"
    place.mkdir()
    (place / "state").write_text(text or str(step))
    return {f"checkpoint-{step}/state": place / "state"}


def test_checkpoint_is_uploaded_though_the_job_removes_it_meanwhile(store: Away, work: Path, tmp_path: Path) -> None:
    told = Told()
    uploader = Uploader(store, work, told.hear, seconds=0)
    files = saved(work, 3)
    uploader.offer(3, files)
    for path in files.values():
        path.unlink()
    told.wait(1)
    elsewhere = tmp_path / "elsewhere"
    checkpoints.write_reference(elsewhere, told[0]["checkpoint"])
    fetched = checkpoints.fetch(elsewhere, store, beyond=2)
    assert fetched is not None
    assert (fetched / "checkpoint-3" / "state").read_text() == "3"
    assert checkpoints.fetch(elsewhere, store, beyond=3) is None, "what lies here is as far"


def test_uploads_are_not_more_frequent_than_asked_but_the_last_one_goes(store: Away, work: Path) -> None:
    told = Told()
    uploader = Uploader(store, work, told.hear, seconds=3600)
    uploader.offer(1, saved(work, 1))
    assert told == []
    uploader.flush(2, saved(work, 2))
    uploader.flush(2, {})
    assert [said["checkpoint"]["step"] for said in told] == [2]
    assert not list(work.glob("upload-*"))


def test_store_that_is_away_costs_a_checkpoint_and_not_the_job(store: Away, work: Path) -> None:
    told = Told()
    store.away = True
    uploader = Uploader(store, work, told.hear, seconds=1e-9)
    uploader.flush(1, saved(work, 1))
    assert told == []
    store.away = False
    uploader.flush(2, saved(work, 2))
    assert [said["checkpoint"]["step"] for said in told] == [2]


def test_work_does_not_begin_anew_because_the_store_is_away(store: Away, work: Path, tmp_path: Path) -> None:
    told = Told()
    Uploader(store, work, told.hear, seconds=0).flush(7, saved(work, 7))
    checkpoints.write_reference(tmp_path / "b", told[0]["checkpoint"])
    store.away = True
    with pytest.raises(ArtifactUnavailable):
        checkpoints.fetch(tmp_path / "b", store, beyond=0)


def test_lost_checkpoint_costs_the_work_and_not_the_job(store: Away, work: Path, tmp_path: Path) -> None:
    told = Told()
    Uploader(store, work, told.hear, seconds=0).flush(7, saved(work, 7))
    checkpoints.write_reference(tmp_path / "b", told[0]["checkpoint"])
    checkpoints.discard(store, checkpoints.superseded(told[0]["checkpoint"], None))
    assert checkpoints.fetch(tmp_path / "b", store, beyond=0) is None
    checkpoints.write_reference(tmp_path / "b", None)
    assert checkpoints.fetch(tmp_path / "b", store, beyond=0) is None


def test_only_what_the_newest_checkpoint_needs_stays_in_the_store(store: Away, work: Path) -> None:
    told = Told()
    uploader = Uploader(store, work, told.hear, seconds=0)
    best = work / "best"
    best.write_text("best")
    uploader.flush(1, saved(work, 1) | {"best": best})
    uploader.flush(2, saved(work, 2) | {"best": best})
    first, second = (said["checkpoint"] for said in told)
    own = [ref.bytes - checkpoints.MARK_BYTES for ref in checkpoints.superseded(first, second)]
    assert own == [1], "the best weights are in both"
    checkpoints.discard(store, checkpoints.superseded(first, second))
    kept = {ref["sha256"] for ref in second["files"].values()}
    assert {p.parent.name + p.name for p in (work.parent / "store/sha256").rglob("*") if p.is_file()} == kept


def test_what_another_job_or_a_result_has_the_same_bytes_of_stays(store: Away, work: Path, tmp_path: Path) -> None:
    told = Told()
    result = store.put_bytes(b"weights")
    other = tmp_path / "other"
    other.mkdir()
    Uploader(store, other, told.hear, seconds=0).flush(1, saved(other, 1, "weights"))
    Uploader(store, work, told.hear, seconds=0).flush(1, saved(work, 1, "weights"))
    of_other, own = (said["checkpoint"] for said in told)
    checkpoints.discard(store, checkpoints.superseded(own, None))
    assert store.get(result).read_bytes() == b"weights"
    checkpoints.write_reference(tmp_path / "c", of_other)
    fetched = checkpoints.fetch(tmp_path / "c", store, beyond=0)
    assert fetched is not None
    assert (fetched / "checkpoint-1" / "state").read_text() == "weights"


def test_a_checkpoint_of_an_older_release_is_fetched_and_left_to_the_collection(store: Away, tmp_path: Path) -> None:
    files = {"checkpoint-1/state": store.put_bytes(b"old").model_dump(mode="json")}
    checkpoints.write_reference(tmp_path / "b", {"step": 1, "files": files})
    fetched = checkpoints.fetch(tmp_path / "b", store, beyond=0)
    assert fetched is not None
    assert (fetched / "checkpoint-1" / "state").read_text() == "old"
    assert checkpoints.superseded({"step": 1, "files": files}, None) == []


def test_folders_are_removed_some_days_after_the_end(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    ends = {"a/1": OLD, "b": NOW, "c": None, "unknown": OLD, "fresh": NOW}
    for id in ends:
        workdirs.workdir(settings, id).mkdir(parents=True)
    os.utime(workdirs.workdir(settings, "unknown"), (OLD.timestamp(), OLD.timestamp()))
    known = {id: end for id, end in ends.items() if id in ("a/1", "b", "c")}

    def ended(ids: list[str]) -> dict[str, datetime | None]:
        assert set(ids) == set(ends)
        return known

    assert workdirs.sweep(workdirs.root(settings), ended, NOW - timedelta(days=3)) == 2
    left = {workdirs.workdir(settings, id) for id in ("b", "c", "fresh")}
    assert set(workdirs.root(settings).iterdir()) == left


def test_a_sweep_removes_a_bounded_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workdirs, "AT_ONCE", 2)
    for number in range(5):
        (tmp_path / str(number)).mkdir()

    def ended(ids: list[str]) -> dict[str, datetime | None]:
        return dict.fromkeys(ids, OLD)

    assert [workdirs.sweep(tmp_path, ended, NOW) for _ in range(4)] == [2, 2, 1, 0]
    assert workdirs.sweep(tmp_path / "none", ended, NOW) == 0
