"""Preference tuning goes on from the champion, and keeps what it computed of it for later runs."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from contracts.events.prep import DatasetFrozenV1
from contracts.events.registry import ModelPromotedV1
from contracts.events.trainer import ModelTrainedV1
from contracts.project import Adapter, ProjectSpec, Prompt, Train
from contracts.schema import example_path
from contracts.types import ArtifactRef, DatasetRef
from services.chassis.errors import JobFailed
from services.chassis.storage.artifacts import ArtifactStore
from services.trainer import worker
from services.trainer.compute import loop
from services.trainer.domain.run_state import Order, Run, champion_of, plan

NOW = datetime(2026, 1, 31, tzinfo=UTC)
LORA = Adapter(r=2)
TUNING = {"learning_rate": 1e-2, "epochs": 2, "replay": 0.0}


@pytest.fixture
def job(
    base: Path, artifacts: ArtifactStore, write_split: Callable[..., Path], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Runs a job on so many pairs; keywords are fields of the order and of the recipe's `train`."""
    numbers = iter(range(100))

    def go(train: dict[str, Any], pairs: int = 4, **fields: Any) -> dict[str, Any]:
        rows = [{"prompt": f"list {i}", "chosen": f"ls -{i}", "rejected": f"dir{i}"} for i in range(pairs)]
        if "sft" in Train.model_validate(train).methods:
            rows += [{"prompt": f"show {i}", "completion": f"cat {i}"} for i in range(4)]
        file = artifacts.put_file(write_split(tmp_path / f"{next(numbers)}.parquet", rows))
        dataset = DatasetRef(project="p", version="1" * 64, number=1, files={"train": file})
        recipe = Train.model_validate({"adapter": LORA, "batch_size": 2, "max_length": 64, **train})
        given = {"run_id": "p-1", "project_revision": "2" * 64, "prompt": Prompt(), "base": str(base)}
        order = Order.model_validate({**given, "dataset": dataset, "recipe": recipe, **fields})
        return worker.run(order.model_dump(mode="json"), tmp_path / f"work-{next(numbers)}", lambda _: None)

    return go


def trained(result: dict[str, Any]) -> ModelTrainedV1:
    golden = json.loads(example_path(ModelTrainedV1).read_text())["data"]
    return ModelTrainedV1.model_validate({**golden, **json.loads(json.dumps(result))})


def promoted(result: dict[str, Any], version: int = 3) -> ModelPromotedV1:
    golden = json.loads(example_path(ModelPromotedV1).read_text())["data"]
    told = trained(result)
    changed = {"model": {"name": "p", "version": version}, "base": told.base, "files": told.files, "kind": told.kind}
    return ModelPromotedV1.model_validate({**golden, **changed})


def weights(artifacts: ArtifactStore, result: dict[str, Any]) -> dict[str, torch.Tensor]:
    ref = trained(result).files["adapter_model.safetensors"]
    return load_file(artifacts.get(ref))


def test_a_stage_with_a_reference_begins_at_the_champion_and_names_it(
    job: Callable[..., dict[str, Any]], artifacts: ArtifactStore
) -> None:
    champion = champion_of(promoted(first := job({"epochs": 2})))
    assert champion is not None
    still = job({"method": "dpo", "preference": {**TUNING, "learning_rate": 1e-12}}, champion=champion)
    for name, value in weights(artifacts, first).items():
        torch.testing.assert_close(weights(artifacts, still)[name], value, rtol=0, atol=1e-9)
    (reference,) = trained(still).references
    assert (reference.of, reference.weights, reference.rows) == ("champion", champion.weights, 8)
    assert reference.model == champion.model
    assert trained(still).figures["margin"] == pytest.approx(0, abs=1e-4)  # of policy and reference: one and the same
    moved = job({"method": "dpo", "preference": TUNING}, champion=champion)
    assert trained(moved).figures["margin"] > 0.01
    manifest = json.loads(artifacts.read_bytes(trained(moved).files["manifest.json"]))
    assert manifest["champion"] == {"name": "p@3", "weights": champion.weights}
    kept = manifest["result"]["stages"][0]["reference"]["log_probabilities"]
    assert kept == trained(moved).references[0].log_probabilities.sha256


def test_without_a_champion_the_base_is_the_reference_and_a_stage_before_is_for_the_next(
    job: Callable[..., dict[str, Any]],
) -> None:
    (of_base,) = trained(job({"method": "dpo", "preference": TUNING})).references
    assert (of_base.of, of_base.model) == ("base", None)
    both = trained(job({"stages": ["sft", "dpo"], "epochs": 1, "preference": TUNING}))
    (of_stage,) = both.references
    assert (of_stage.of, of_stage.model) == ("sft", None)
    assert of_stage.weights != of_base.weights
    assert {"sft_train_loss", "accuracy", "margin", "length_ratio"} <= both.figures.keys()


def test_a_later_run_takes_what_an_earlier_one_kept(
    job: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(task: loop.Task, packs: Any) -> Any:
        asked.extend(i for pack in packs for i in pack)
        return answers(task, packs)

    answers = loop.answers
    monkeypatch.setattr(loop, "answers", counted)
    tuning = {"method": "dpo", "preference": TUNING}
    first = job(tuning)
    assert len(asked) == 4
    kept = trained(first).references[0].log_probabilities
    asked.clear()
    again = job(tuning, reference=kept)
    assert (asked, again["weights"]) == ([], first["weights"])
    job(tuning, pairs=6, reference=kept)
    assert len(asked) == 2  # the pairs that are new
    asked.clear()
    job(tuning, champion=champion_of(promoted(first)), reference=kept)
    assert len(asked) == 4  # another model's


@pytest.mark.parametrize(
    ("train", "changed", "told"),
    [
        ({"method": "dpo"}, {"base": "e" * 64}, r"another base .* train\.stages: \[sft, dpo\]"),
        ({"method": "dpo", "adapter": Adapter(r=4)}, {}, r"asks for r 4 and the adapter of p@3, .* has 2;"),
        ({"method": "kto"}, {"kind": "full"}, r"p@3 is a full model"),
    ],
)
def test_a_champion_that_is_no_beginning_is_refused_with_advice(
    job: Callable[..., dict[str, Any]], train: dict[str, Any], changed: dict[str, Any], told: str
) -> None:
    champion = champion_of(promoted(job({"epochs": 1})))
    assert champion is not None
    with pytest.raises(JobFailed, match=told) as caught:
        job(train, champion=champion.model_copy(update=changed))
    assert caught.value.code == "bad_recipe"


def test_full_weights_go_on_from_an_adapter_and_from_full_weights(job: Callable[..., dict[str, Any]]) -> None:
    full = {"method": "dpo", "adapter": Adapter(kind="none"), "preference": {**TUNING, "learning_rate": 1e-4}}
    first = job(full, champion=champion_of(promoted(job({"epochs": 1}))))
    assert trained(first).references[0].of == "champion"
    second = job(full, champion=champion_of(promoted(first)))
    assert trained(second).references[0].weights == first["weights"] != second["weights"]


def frozen() -> DatasetFrozenV1:
    return DatasetFrozenV1.model_validate(json.loads(example_path(DatasetFrozenV1).read_text())["data"])


@pytest.mark.parametrize(
    ("stages", "begins"), [(["dpo"], True), (["kto"], True), (["sft", "dpo"], False), (["orpo"], False)]
)
def test_an_order_names_the_champion_where_the_first_stage_has_a_reference(stages: list[str], begins: bool) -> None:
    promotion = ModelPromotedV1.model_validate(json.loads(example_path(ModelPromotedV1).read_text())["data"])
    champion = champion_of(promotion)
    assert champion is not None
    spec = ProjectSpec.model_validate({"project": "p", "base": "b", "train": {"stages": stages}})
    kept = ArtifactRef(uri="file:///a", sha256="c" * 64, bytes=1)
    told = {"method": "dpo", "of": "champion", "weights": champion.weights, "rows": 1, "log_probabilities": kept}
    other = {**told, "weights": "0" * 64}
    earlier = [Run.model_validate({**one, "references": [r]}) for one, r in ((a_run(), other), (a_run(), told))]
    _, order = plan(frozen(), spec, NOW, champion, earlier)
    assert (order.champion, order.reference) == ((champion, kept) if begins else (None, None))
    _, order = plan(frozen(), spec, NOW, champion_of(promotion.model_copy(update={"files": {}})), earlier)
    assert (order.champion, order.reference) == (None, None)


def a_run() -> dict[str, Any]:
    event = frozen()
    return {
        "run_id": "r",
        "project": event.project,
        "project_revision": "1" * 64,
        "dataset": event.dataset,
        "created_at": NOW,
    }
