"""Stages of a run: what each minimises, where it begins, what it leaves. The reference of a stage is the model as it begins."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from services.lm.files import sha256_file
from services.lm.measured import Compute
from services.trainer.compute import loop, provenance, reference
from services.trainer.compute.checkpoint import State
from services.trainer.compute.data import Data, Stage
from services.trainer.compute.objective import LogProbs, Objective
from services.trainer.domain import schedule
from services.trainer.domain.packing import Limits, split
from services.trainer.domain.spec import Reference, TrainSpec
from services.trainer.domain.stages import REFERRED as REFERRED


def task_of(
    found: Data,
    number: int,
    limits: Limits,
    compute: Compute,
    net: Any,
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    pool: ThreadPoolExecutor,
) -> loop.Task:
    """The task of a stage."""
    stage = found.stages[number]
    whole = sum(schedule.total_steps(s.recipe, len(s.train)) for s in found.stages)
    return loop.Task(
        stage.recipe,
        found.units,
        stage.train,
        stage.held,
        found.prefix,
        limits,
        compute,
        net,
        weights,
        optimizer,
        pool,
        whole,
    )


def objective(
    spec: TrainSpec, stage: Stage, task: loop.Task, state: State, workdir: Path, halt: Callable[[], None]
) -> Objective | None:
    """What the stage minimises; None for sft. The reference's log-probabilities are computed where no file has them."""
    if stage.method == "sft":
        return None
    known: LogProbs = {}
    if stage.method in REFERRED:
        known = _reference(spec, stage, task, state, workdir, halt)
    settings = stage.recipe.preference
    return Objective(stage.method, settings, task.units, known, stage.against, stage.weights)


def _reference(
    spec: TrainSpec, stage: Stage, task: loop.Task, state: State, workdir: Path, halt: Callable[[], None]
) -> LogProbs:
    """What the model says before the stage's first step, from the job's folder, an earlier run's file, or itself."""
    judged = [i for i in (*stage.train, *stage.held) if _is_preference(task, i)]
    wanted = [*judged, *stage.against.values()]
    name = f"reference-{state.stage}.safetensors"
    if state.reference == name:  # a resumed stage: its model is no longer what it began with
        identity = next(r for r in state.references if r["file"] == name)["identity"]
        return reference.of_units(reference.load(workdir / name, identity), task.units, wanted, task.compute.device)
    of, weights = _which(spec, task, state)
    identity = {"weights": weights, "base": provenance.directory_digest(spec.base), "dtype": task.compute.dtype}
    table = reference.load(workdir / name, identity)  # of a try that was stopped meanwhile
    table |= reference.load(spec.reference, identity) if state.stage == 0 else {}
    lacking = reference.missing(task.units, wanted, table)
    packs = split(lacking, task.units, task.prefix, task.limits)
    task.net.eval()
    try:
        for at in range(0, len(packs), task.compute.workers):
            halt()
            table |= reference.table_of(task.units, loop.answers(task, packs[at : at + task.compute.workers]))
    finally:
        rows = reference.only(table, task.units, wanted)
        reference.save(workdir / name, rows, identity)
    task.net.train()
    state.reference = name
    state.references.append(
        {"method": stage.method, "of": of, "file": name, "rows": len(rows), "identity": identity}
        | {"log_probabilities": sha256_file(workdir / name)}
    )
    return reference.of_units(rows, task.units, wanted, task.compute.device)


def _is_preference(task: loop.Task, index: int) -> bool:
    unit = task.units[index]
    return len(unit.rows) == 2 or unit.desirable is not None


def _which(spec: TrainSpec, task: loop.Task, state: State) -> tuple[str, str]:
    """What the reference is, and the digest of its weights."""
    if state.stage:
        found = hashlib.sha256()
        for name, parameter in task.weights.items():
            found.update(name.encode())
            found.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return str(state.ended[-1]["method"]), found.hexdigest()
    if spec.champion is not None:
        return "champion", spec.champion.weights
    return "base", provenance.directory_digest(spec.base)


def go_on(found: Data, task: loop.Task, state: State) -> None:
    """End the stage that is over, and put the next one into the task; its optimiser has no memory of the one before."""
    state.ended.append(outcome(state) | {"method": found.stages[state.stage].method})
    state.stage, state.began = state.stage + 1, state.step
    state.train_losses, state.validation_losses, state.train_figures, state.best_figures = [], [], {}, {}
    state.best_step = state.best_loss = state.reference = None
    following = found.stages[state.stage]
    task.recipe, task.train, task.held = following.recipe, following.train, following.held
    task.optimizer = loop.make_optimizer(task.weights, following.recipe)


def outcome(state: State) -> dict[str, Any]:
    """What came of the stage, for the manifest."""
    return {
        "steps": state.stage_step,
        "kept_step": state.best_step if state.best_step is not None else state.step,
        "train_losses": state.train_losses,
        "validation_losses": state.validation_losses,
        "train": state.train_figures,
        "validation": state.best_figures,
        "reference": state.references[-1] if state.reference else None,
    }


def figures(found: Data, state: State) -> dict[str, float]:
    """Figures of preference stages beside those of every run; of the validation rows where there are any."""
    told: dict[str, float] = {}
    for ended in state.ended:
        told[f"{ended['method']}_train_loss"] = ended["train_losses"][-1]
    last = found.stages[state.stage]
    early = last is not found.stages[-1] or state.stage_step < schedule.total_steps(last.recipe, len(last.train))
    if early or any(stage.shortened for stage in found.stages):
        told["budget_spent"] = 1.0
    if last.method == "sft":
        return told
    told |= state.best_figures or state.train_figures
    told |= {name: float(last.notes[name]) for name in ("replayed", "too_close")}
    told["preferences"] = float(last.notes["train"])
    return told | ({"length_ratio": last.length_ratio} if last.length_ratio is not None else {})


def references(workdir: Path, state: State) -> tuple[Reference, ...]:
    """The references of all stages."""
    return tuple(
        Reference(r["method"], r["of"], r["identity"]["weights"], workdir / r["file"], r["rows"])
        for r in state.references
    )
