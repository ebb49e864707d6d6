"""What a finished run leaves: weights, configuration, tokenizer and a manifest of everything that went in."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from services.lm.files import publish, sha256_file, sha256_tree
from services.trainer.compute import stages
from services.trainer.compute.checkpoint import State
from services.trainer.compute.loop import Task
from services.trainer.domain.spec import TrainResult, TrainSpec


def write(
    spec: TrainSpec, workdir: Path, task: Task, state: State, facts: dict[str, Any], tokenizer: Any
) -> TrainResult:
    """Publish `workdir`/output and describe it. The files hold no time and no path: equal runs give equal bytes."""
    aside = Path(tempfile.mkdtemp(dir=workdir, prefix="aside-"))
    lora = spec.recipe.adapter.kind == "lora"
    (_write_adapter if lora else _write_full)(task.net, spec.base, aside)
    tokenizer.save_pretrained(aside)
    weights = weights_digest(aside)
    _write_json(aside / "manifest.json", facts | {"result": _result(task, state, weights)})
    final = workdir / "output"
    shutil.rmtree(final, ignore_errors=True)
    publish(aside, final)
    return TrainResult(
        directory=final,
        kind="lora" if lora else "full",
        weights=weights,
        code=facts["code"],
        environment=facts["environment"],
        figures=_figures(task, state),
    )


def weights_digest(directory: Path) -> str:
    """SHA-256 of the weights' file; of the sorted lines 'path sha256' where there are several."""
    files = {file.name: sha256_file(file) for file in directory.glob("*.safetensors")}
    return next(iter(files.values())) if len(files) == 1 else sha256_tree(files)


def _write_adapter(net: Any, _: Path, directory: Path) -> None:
    net.save_pretrained(directory, safe_serialization=True, save_embedding_layers=False)  # 'auto' asks the hub
    (directory / "README.md").unlink(missing_ok=True)
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text())
    # peft holds the names in a set, whose order changes with the interpreter's hash seed.
    _write_json(path, config | {"target_modules": sorted(config["target_modules"])})


def _write_full(net: Any, base: Path, directory: Path) -> None:
    named = json.loads((base / "config.json").read_text())
    stored = named.get("dtype") or named.get("torch_dtype") or "float32"
    net.config.use_cache = True
    net.to(getattr(torch, stored)).save_pretrained(directory, safe_serialization=True)


def _result(task: Task, state: State, weights: str) -> dict[str, Any]:
    return {
        "weights": weights,
        "steps": state.step,
        "kept_step": state.best_step if state.best_step is not None else state.step,
        "tokens": state.tokens,
        "train_losses": state.train_losses,
        "validation_losses": state.validation_losses,
        "trained_parameters": sum(p.numel() for p in task.weights.values()),
        **({"stages": [*state.ended, stages.outcome(state)]} if task.objective or state.ended else {}),
    }


def _figures(task: Task, state: State) -> dict[str, float]:
    figures = {
        "train_loss": state.train_losses[-1],
        "tokens": float(state.tokens),
        "seconds": state.seconds,
        "tokens_per_second": state.tokens / max(1e-9, state.seconds),
        "steps": float(state.step),
        "trained_parameters": float(sum(p.numel() for p in task.weights.values())),
    }
    return figures | ({"validation_loss": state.best_loss} if state.best_loss is not None else {})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
