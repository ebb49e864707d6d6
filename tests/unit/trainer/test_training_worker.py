"""The job as the service starts it: references in, references out, and how it gives way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.events.trainer import ModelTrainedV1
from contracts.project import Adapter, Prompt, Train
from contracts.types import ArtifactRef, DatasetRef
from services.chassis.errors import JobFailed, JobStopped
from services.chassis.storage.artifacts import ArtifactStore, open_store
from services.trainer import worker
from services.trainer.domain.run_state import Order
from services.trainer.settings import TrainerSettings


@pytest.fixture
def artifacts(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NORIA_CACHE", str(cache))
    return open_store(TrainerSettings())


@pytest.fixture
def order(
    base: Path, artifacts: ArtifactStore, write_split: Callable[..., Path], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Builds a job's specification; keywords are fields of the order."""
    rows = [(f"list {i}", f"ls {i}") for i in range(6)]
    files = {
        "train": artifacts.put_file(write_split(tmp_path / "train.parquet", rows[:4])),
        "validation": artifacts.put_file(write_split(tmp_path / "validation.parquet", rows[4:])),
    }

    def build(**fields: Any) -> dict[str, Any]:
        dataset = DatasetRef(project="p", version="1" * 64, number=1, files=files)
        recipe = Train(adapter=Adapter(r=2), epochs=2, batch_size=2, max_length=64)
        given: dict[str, Any] = {"run_id": "p-1", "project_revision": "2" * 64, "prompt": Prompt(), "base": str(base)}
        return Order.model_validate({**given, "dataset": dataset, "recipe": recipe, **fields}).model_dump(mode="json")

    return build


def test_result_is_what_the_event_needs(order: Callable[..., Any], artifacts: ArtifactStore, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    result = worker.run(order(), tmp_path / "work", told.append)
    ours = {"project": "p", "project_revision": "2" * 64, "run_id": "p-1", "dataset": order()["dataset"]}
    event = ModelTrainedV1.model_validate({**ours, **json.loads(json.dumps(result))})
    assert event.weights == event.files["adapter_model.safetensors"].sha256
    manifest = json.loads(artifacts.read_bytes(event.files["manifest.json"]))
    assert manifest["given"]["dataset_version"] == "1" * 64
    assert manifest["base"]["digest"] == event.base.digest == manifest["given"]["base_digest"]
    assert told[0]["stage"] == "preparing"
    assert (told[-1]["step"], told[-1]["final"]) == (4, True)


def test_failures_carry_their_code(order: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(JobFailed) as unknown:
        worker.run(order(base="nothing-such"), tmp_path / "a", ignore)
    assert unknown.value.code == "base_not_found"
    gone = ArtifactRef(uri=(tmp_path / "home/artifacts/sha256/aa/bb").as_uri(), sha256="a" * 64, bytes=1)
    dataset = DatasetRef(project="p", version="1" * 64, number=1, files={"train": gone})
    with pytest.raises(JobFailed) as missing:
        worker.run(order(dataset=dataset), tmp_path / "b", ignore)
    assert missing.value.code == "dataset_unavailable"


def test_a_cancelled_run_fails_and_a_stopped_one_gives_way(
    order: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    monkeypatch.setattr(worker, "stop_requested", lambda: True)
    with pytest.raises(JobStopped):
        worker.run(order(), work, ignore)
    assert list(work.glob("checkpoint-*"))
    (work / "cancel").touch()
    with pytest.raises(JobFailed) as cancelled:
        worker.run(order(), work, ignore)
    assert cancelled.value.code == "cancelled"


def ignore(_: dict[str, Any]) -> None:
    """No one listens."""
