"""The job as the service starts it: references in, references out, and how it gives way."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from contracts.events.trainer import ModelTrainedV1
from contracts.project import Adapter, Prompt, Train
from contracts.training import Budget
from contracts.types import ArtifactRef, DatasetRef
from services.chassis.errors import ArtifactUnavailable, JobFailed, JobStopped
from services.chassis.jobs.checkpoints import write_reference
from services.chassis.jobs.failures import classify
from services.chassis.storage.artifacts import ArtifactStore
from services.trainer import worker
from services.trainer.domain.run_state import Order


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


def test_a_job_keeps_to_the_projects_budget(
    order: Callable[..., Any], artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Train(adapter=Adapter(r=2), epochs=2, batch_size=2, max_length=64, budget=Budget(money=1e-9))
    with pytest.raises(JobFailed, match="NORIA_TRAINER_PRICE_PER_HOUR"):
        worker.run(order(recipe=recipe), tmp_path / "unpriced", ignore)
    monkeypatch.setenv("NORIA_TRAINER_PRICE_PER_HOUR", "2")
    figures = worker.run(order(recipe=recipe), tmp_path / "priced", ignore)["figures"]
    assert (figures["steps"], figures["budget_spent"]) == (1.0, 1.0)


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


def test_another_machine_goes_on_from_the_store_to_the_same_bits(
    order: Callable[..., Any], artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instance A leaves a checkpoint in the store and dies with its disk; B, with an empty one, ends as A would have."""
    recipe = Train(adapter=Adapter(r=2, dropout=0.1), epochs=4, batch_size=2, max_length=64)
    whole = worker.run(order(recipe=recipe), tmp_path / "whole", ignore)
    told: list[dict[str, Any]] = []
    asked = iter([False, False, False, False, False, True])
    monkeypatch.setattr(worker, "stop_requested", lambda: next(asked, True))
    with pytest.raises(JobStopped):
        worker.run(order(recipe=recipe), tmp_path / "a", told.append)
    shutil.rmtree(tmp_path / "a")
    (checkpoint,) = [said["checkpoint"] for said in told if "checkpoint" in said]
    assert checkpoint["step"] == 5
    assert any(name.startswith("best-") for name in checkpoint["files"]), "the best epoch's weights come along"
    monkeypatch.setattr(worker, "stop_requested", lambda: False)
    write_reference(tmp_path / "b", checkpoint)
    steps: list[int] = []
    moved = worker.run(order(recipe=recipe), tmp_path / "b", lambda said: steps.append(said.get("step", 0)))
    assert min(step for step in steps if step) > checkpoint["step"]
    names = ("files", "weights")
    assert {name: moved[name] for name in names} == {name: whole[name] for name in names}


def test_a_machine_of_another_kind_goes_on_and_the_manifest_names_both(
    order: Callable[..., Any], artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([False, False, False, True])
    monkeypatch.setattr(worker, "stop_requested", lambda: next(asked, False))
    with pytest.raises(JobStopped):
        worker.run(order(), tmp_path / "work", ignore)
    monkeypatch.setattr("services.trainer.compute.provenance.platform_facts", lambda: {"cpu": "another"})
    told: list[dict[str, Any]] = []
    result = worker.run(order(), tmp_path / "work", told.append)
    assert min(said["step"] for said in told if said.get("step")) > 1
    files = {name: ArtifactRef.model_validate(ref) for name, ref in result["files"].items()}
    turns = json.loads(artifacts.read_bytes(files["manifest.json"]))["turns"]
    assert [turn["platform"].get("cpu") == "another" for turn in turns] == [False, True]


def test_a_store_that_is_away_when_the_result_is_stored_loses_no_step(
    order: Callable[..., Any], artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = worker.run(order(), tmp_path / "whole", ignore)

    def away(*_: Any) -> None:
        raise ArtifactUnavailable("the store does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(ArtifactStore, "put_directory", away)
        with pytest.raises(ArtifactUnavailable) as caught:
            worker.run(order(), tmp_path / "work", ignore)
    assert classify(caught.value).code == "store_unavailable"
    told: list[dict[str, Any]] = []
    assert worker.run(order(), tmp_path / "work", told.append)["files"] == whole["files"]
    assert not [said for said in told if said.get("step")], "no step was made again"


def test_a_full_disk_under_a_checkpoint_costs_the_steps_since_the_one_before(
    order: Callable[..., Any], artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.trainer.compute import checkpoint

    whole = worker.run(order(), tmp_path / "whole", ignore)
    write, written = checkpoint.save_file, []

    def full(tensors: Any, path: Path, *rest: Any) -> None:
        written.append(path)
        if len(written) == 4:  # best and checkpoint of the first epoch, best of the second, and then
            path.write_bytes(b"half")
            raise SafetensorError('I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }')
        write(tensors, path, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", full)
        with pytest.raises(SafetensorError) as caught:
            worker.run(order(), tmp_path / "work", ignore)
    assert classify(caught.value).code == "disk_full"
    told: list[dict[str, Any]] = []
    assert worker.run(order(), tmp_path / "work", told.append)["files"] == whole["files"]
    assert min(said["step"] for said in told if said.get("step")) == 3


def ignore(_: dict[str, Any]) -> None:
    """No one listens."""
