"""Whole runs of the tiny model: they repeat, resume, stop and fail as promised."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from contracts.project import Adapter, Prompt
from services.lm import measured
from services.lm.errors import BaseInvalid, BaseNotFound
from services.lm.measured import Compute
from services.trainer.compute import loop, run
from services.trainer.compute.forward import loss_sum
from services.trainer.domain.failures import (
    BadRecipe,
    Cancelled,
    EmptyDataset,
    LossNotFinite,
)
from services.trainer.domain.spec import Progress, TrainResult, TrainSpec

Specs = Callable[..., TrainSpec]


WEIGHTS = {"lora": "adapter_model.safetensors", "none": "model.safetensors"}


def never() -> bool:
    return False


def ignore(_: Progress) -> None:
    """No one listens."""


def asked_after(times: int) -> Callable[[], bool]:
    """A stop that is asked for after so many looks."""
    looks = iter(range(1000))
    return lambda: next(looks) >= times


def go(spec: TrainSpec, workdir: Path) -> tuple[TrainResult, list[Progress]]:
    told: list[Progress] = []
    return run.train(spec, workdir, told.append, never), told


def bytes_of(result: TrainResult) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(result.directory.iterdir())}


METHODS = pytest.mark.parametrize("stages", [("sft",), ("dpo",), ("kto",), ("orpo",), ("sft", "dpo")], ids="-".join)


@METHODS
def test_equal_runs_give_equal_bytes(make_spec: Specs, tmp_path: Path, stages: tuple[str, ...]) -> None:
    spec = make_spec(stages=stages)
    first, _ = go(spec, tmp_path / "a")
    second, _ = go(spec, tmp_path / "b")
    assert bytes_of(first) == bytes_of(second)
    other, _ = go(make_spec(seed=8, stages=stages), tmp_path / "c")
    assert other.weights != first.weights


@pytest.mark.parametrize("adapter", [Adapter(r=4), Adapter(r=4, layers_to_transform=(2, 3)), Adapter(kind="none")])
def test_workers_change_nothing_but_the_last_bits(
    make_spec: Specs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: Adapter
) -> None:
    spec = make_spec(adapter=adapter, learning_rate=1e-3)

    def weights(workers: int, name: str) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(measured, "choose", lambda _: Compute("cpu", "float32", 1, workers))
        passes.clear()
        return load_file(go(spec, tmp_path / name)[0].directory / WEIGHTS[adapter.kind])

    passes: list[int] = []

    def counted(*args: Any) -> Any:
        passes.append(1)
        return loss_sum(*args)

    monkeypatch.setattr(loop, "loss_sum", counted)
    one, few = weights(1, "one"), len(passes)
    three, many = weights(3, "three"), len(passes)
    again = weights(3, "again")
    assert many > few  # the rows of a step were shared
    for name, value in one.items():
        torch.testing.assert_close(three[name], value, rtol=1e-3, atol=2e-4)
        assert torch.equal(three[name], again[name])


def test_a_model_with_dropout_has_one_worker(make_spec: Specs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "choose", lambda _: Compute("cpu", "float32", 1, 3))
    result, _ = go(make_spec(adapter=Adapter(r=4, dropout=0.1)), tmp_path)
    manifest = json.loads((result.directory / "manifest.json").read_text())
    assert manifest["compute"]["workers"] == 1


@METHODS
@pytest.mark.parametrize("kind", ["lora", "none"])
def test_resumed_run_equals_uninterrupted_run(
    make_spec: Specs, tmp_path: Path, kind: str, stages: tuple[str, ...]
) -> None:
    adapter = Adapter(kind="lora", r=4, dropout=0.1) if kind == "lora" else Adapter(kind="none")
    spec = make_spec(adapter=adapter, learning_rate=1e-3, stages=stages)
    whole, every = go(spec, tmp_path / "whole")
    stopped_in: list[int] = []
    while True:  # a few looks at a time until it is through
        try:
            resumed = run.train(spec, tmp_path / "cut", ignore, asked_after(looks_for(stages)))
            break
        except Cancelled:
            (state,) = (tmp_path / "cut").glob("checkpoint-*/state.json")
            stopped_in.append(json.loads(state.read_text())["stage"])
    assert len(stopped_in) >= 2
    assert set(stopped_in) == set(range(len(stages)))
    assert bytes_of(resumed) == bytes_of(whole)
    assert resumed.figures.keys() == whole.figures.keys()
    assert every[-1].step == every[-1].total_steps


def looks_for(stages: tuple[str, ...]) -> int:
    """So many looks let at least one step be made: a reference, and frozen layers, are asked for between looks too."""
    return 2 if set(stages) <= {"sft", "orpo"} else 3


def test_learns_and_reports(make_spec: Specs, tmp_path: Path) -> None:
    result, told = go(make_spec(epochs=6), tmp_path)
    assert told[-1].step == told[-1].total_steps == 18
    assert told[-1].eta_seconds == 0
    assert told[0].validation_loss is None or result.figures["validation_loss"] < told[0].validation_loss - 1
    manifest = json.loads((result.directory / "manifest.json").read_text())
    losses = manifest["result"]["validation_losses"]
    assert len(losses) == 6
    assert min(losses) == result.figures["validation_loss"]
    assert manifest["result"]["weights"] == result.weights
    assert str(tmp_path) not in json.dumps(manifest)


@pytest.mark.parametrize("method", ["dpo", "kto", "orpo"])
def test_preferences_are_learnt_and_told(make_spec: Specs, tmp_path: Path, method: str) -> None:
    result, told = go(make_spec(stages=(method,), epochs=8, lr_scheduler="constant"), tmp_path / "work")
    first, last = told[0].preference, told[-1].preference
    assert first is not None
    assert last is not None
    assert told[-1].method == method
    assert last["margin"] > first["margin"] + 0.05
    assert last["accuracy"] >= 0.9 > first["accuracy"]
    assert result.figures["accuracy"] > 0.5  # of the validation rows, of which there are few
    assert result.figures["replayed"] > 0


def test_replayed_rows_are_not_forgotten(make_spec: Specs, tmp_path: Path) -> None:
    def replayed(share: float) -> float:
        spec = make_spec(stages=("dpo",), epochs=8, preference={"replay": share})
        _, told = go(spec, tmp_path / f"{share}")
        return (told[-1].preference or {}).get("replay_loss", float("nan"))

    much, few = replayed(0.4), replayed(0.1)
    assert much < few


def test_best_epoch_is_kept(make_spec: Specs, write_split: Callable[..., Path], tmp_path: Path) -> None:
    # The validation rows contradict the training rows, so learning more of these makes those worse.
    contrary = write_split(tmp_path / "contrary.parquet", [("list x1", "QQQQQQ"), ("list 0", "ZZZZZZ")])
    spec = replace(make_spec(epochs=8, lr_scheduler="constant"), validation=contrary)
    result, _ = go(spec, tmp_path / "a")
    manifest = json.loads((result.directory / "manifest.json").read_text())["result"]
    kept = manifest["validation_losses"].index(min(manifest["validation_losses"])) + 1
    assert manifest["kept_step"] == kept * 3 < manifest["steps"]


def test_adapter_loads_with_peft(make_spec: Specs, base: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    result, _ = go(make_spec(), tmp_path)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(result.directory))
    assert set(model.peft_config) == {"default"}
    names = {file.name for file in result.directory.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "manifest.json"} <= names
    config = json.loads((result.directory / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert config["target_modules"] == sorted(config["target_modules"])
    saved = load_file(result.directory / "adapter_model.safetensors")
    layers = {name.split(".layers.")[1].split(".")[0] for name in saved}
    assert layers == {"2", "3"}


def test_full_model_is_written(make_spec: Specs, tmp_path: Path) -> None:
    result, _ = go(make_spec(adapter=Adapter(kind="none"), learning_rate=1e-3), tmp_path)
    assert result.kind == "full"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {file.name for file in result.directory.iterdir()}


def test_diverging_run_stops_at_once(make_spec: Specs, tmp_path: Path) -> None:
    spec = make_spec(learning_rate=10, warmup_ratio=0.0, adapter=Adapter(kind="none"), epochs=1000)
    with pytest.raises(LossNotFinite, match=r"step \d+ with learning rate|after step \d+"):
        _with_infinite_weight(spec, tmp_path)


def _with_infinite_weight(spec: TrainSpec, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    broken = Path(shutil.copytree(spec.base, tmp_path / "broken"))
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * float("inf")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    go(replace(spec, base=broken), tmp_path / "work")


def test_causes_of_failure(make_spec: Specs, write_split: Callable[..., Path], tmp_path: Path) -> None:
    spec = make_spec()
    with pytest.raises(EmptyDataset, match="empty"):
        go(replace(spec, train=write_split(tmp_path / "none.parquet", [])), tmp_path / "a")
    with pytest.raises(BaseNotFound, match="does not exist"):
        go(replace(spec, base=tmp_path / "nowhere"), tmp_path / "b")
    with pytest.raises(BaseInvalid):
        go(replace(spec, base=tmp_path), tmp_path / "c")
    with pytest.raises(BadRecipe, match="layers 0 to 3"):
        go(make_spec(adapter=Adapter(layers_to_transform=(9,))), tmp_path / "d")
    with pytest.raises(BadRecipe, match="nothing_such"):
        go(make_spec(adapter=Adapter(target_modules=("nothing_such",))), tmp_path / "e")


def test_odd_records_are_left_out_counted_and_told(make_spec: Specs, tmp_path: Path) -> None:
    spec = strict(make_spec(max_steps=1), tmp_path, odd=3, good=2)
    result, _ = go(spec, tmp_path / "work")
    assert result.left_out == {"preference": 3, "template_refused": 3}
    assert json.loads((result.directory / "manifest.json").read_text())["rows"]["left_out"] == result.left_out


def test_a_run_without_a_row_says_what_was_left_out(make_spec: Specs, tmp_path: Path) -> None:
    with pytest.raises(EmptyDataset, match="2 preference, 2 template_refused"):
        go(strict(make_spec(), tmp_path, odd=2, good=0), tmp_path / "work")


def test_a_system_prompt_that_the_base_does_not_take_fails_the_run_with_advice(
    make_spec: Specs, tmp_path: Path
) -> None:
    spec = replace(strict(make_spec(), tmp_path, odd=0, good=1), prompt=Prompt(system="Be brief."))
    with pytest.raises(BadRecipe, match=r"prompt\.system .* begin the user's turns"):
        go(spec, tmp_path / "work")


def strict(spec: TrainSpec, tmp_path: Path, *, odd: int, good: int) -> TrainSpec:
    """A base that takes user and assistant by turns alone, and records of which `odd` begin with the assistant or prefer."""
    base = Path(shutil.copytree(spec.base, tmp_path / "strict"))
    alternate = "{{ raise_exception('roles must alternate') }}"
    template = (base / "chat_template.jinja").read_text()
    check = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        + alternate
        + "{% endif %}{% endfor %}"
    )
    (base / "chat_template.jinja").write_text(check + template)
    talk = [{"role": "user", "content": "list"}, {"role": "assistant", "content": "ls"}]
    records = [*[{"messages": talk}] * good, *[{"messages": talk[::-1] + talk[1:]}] * odd]
    records += [{"prompt": "p", "chosen": "a", "rejected": "b"}] * odd
    train = tmp_path / "strict.parquet"
    pq.write_table(pa.table({"record": [json.dumps(record) for record in records]}), train)
    return replace(spec, base=base, train=train, validation=None, prompt=Prompt())
