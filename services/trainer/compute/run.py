"""One training run from its inputs to its result: prepare, train stage by stage, write. Knows no artifact store and no event."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from services.lm import measured
from services.lm.files import sha256_file
from services.lm.measured import Compute
from services.lm.system_prompt import system_refusal
from services.lm.tokens import open_tokenizer
from services.trainer.compute import checkpoint, data, frozen_layers, loop, model, output, provenance, stages
from services.trainer.compute.data import Data, Stage
from services.trainer.domain import schedule
from services.trainer.domain.failures import BadRecipe, Cancelled
from services.trainer.domain.packing import Limits, step_rows
from services.trainer.domain.spec import Progress, TrainResult, TrainSpec

Saved = Callable[[int, dict[str, Path], bool], None]
"""Hears of each checkpoint on disk: its step, its files by name, and whether it is the last one before a stop."""


def train(
    spec: TrainSpec,
    workdir: Path,
    report: Callable[[Progress], None],
    stop: Callable[[], bool],
    saved: Saved = lambda step, files, last: None,
) -> TrainResult:
    """Run `spec` in `workdir`, going on from a checkpoint that lies there; the result's files are in `workdir`/output.

    Raises:
        TrainingFailed: one of the tree in domain/failures.py.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    compute = measured.choose(spec.cache)
    measured.apply(compute, spec.recipe.seed)
    tokenizer = open_tokenizer(spec.base)
    if why := system_refusal(tokenizer.template, spec.prompt, spec.base_name):
        raise BadRecipe(why)
    found = data.load(spec, tokenizer)
    net = model.prepare(spec.base, spec.base_name, spec.recipe.adapter, compute, spec.champion)
    compute = model.fitting(net, compute)
    weights = model.trainable(net)
    optimizer = loop.make_optimizer(weights, spec.recipe)
    identity = identify(spec, compute)
    state = checkpoint.load(workdir, digest(resumable(identity)), weights, optimizer)
    computed = {name: identity[name] for name in MACHINE}
    if computed not in state.computed[-1:]:
        state.computed.append(computed)
    pool = measured.pool(compute)
    task = stages.task_of(found, state.stage, limits(net, compute), compute, net, weights, optimizer, pool)

    def save(last: bool = False) -> None:
        checkpoint.save(workdir, state, weights, task.optimizer)
        saved(state.step, checkpoint.files(workdir, state), last)

    def halt() -> None:
        if stop():
            save(last=True)
            raise Cancelled(f"stopped on request after step {state.step}; the checkpoint is kept")

    with pool:
        task.lower = keep_lower(task, found, halt)
        while True:
            stage = found.stages[state.stage]
            task.objective = stages.objective(spec, stage, task, state, workdir, halt)
            loop.train(task, state, workdir, report, halt, save, spec.checkpoint_seconds, spec.seconds)
            if state.stage == len(found.stages) - 1 or state.seconds >= spec.seconds:
                break
            stages.go_on(found, task, state)
    turns = {"turns": state.computed} if len(state.computed) > 1 else {}
    facts = identity | turns | {"rows": found.notes}
    written = output.write(spec, workdir, task, state, facts, tokenizer.backend)
    kept = stages.references(workdir, state)
    figures = written.figures | stages.figures(found, state)
    return replace(written, left_out=found.left_out, figures=figures, references=kept)


def limits(net: Any, compute: Compute) -> Limits:
    """Pack size: on CPU small enough for the caches, on a GPU large enough to fill it; at most 1 GiB of float32 logits in all."""
    tokens = 512 if compute.device == "cpu" else 4096
    return Limits(tokens=tokens, targets=max(1, 2**28 // (net.config.vocab_size * compute.workers)))


def keep_lower(task: loop.Task, found: Data, halt: Callable[[], None]) -> frozen_layers.CachedLowerLayers | None:
    """The kept states of the frozen lower layers, already in their place; None where there are none or too many."""
    first = model.first_trained_layer(task.net)
    used = sorted({i for stage in found.stages for i in _used(stage)})
    dtype = task.compute.torch_dtype
    if (
        first == 0
        or frozen_layers.size(task.units, used, task.prefix, task.net.config.hidden_size, dtype)
        > frozen_layers.LIMIT_BYTES
    ):
        return None
    task.net.eval()
    kept = frozen_layers.compute(
        task.net, first, task.units, used, task.prefix, task.limits, dtype, halt, task.pool, task.compute.workers
    )
    task.net.train()
    frozen_layers.install(task.net, first, kept)
    return kept


def _used(stage: Stage) -> set[int]:
    """The units that a stage comes to; a short one with a reference all the same, since that is asked for all of them."""
    recipe, rows = stage.recipe, len(stage.train)
    steps, a_pass = schedule.total_steps(recipe, rows), schedule.steps_per_epoch(rows, recipe.batch_size)
    seen = set(stage.train)
    if steps < a_pass and stage.method not in stages.REFERRED:
        seen = {stage.train[i] for s in range(steps) for i in step_rows(rows, recipe.batch_size, recipe.seed, s)}
    return seen | set(stage.held) | set(stage.against.values())


def identify(spec: TrainSpec, compute: Compute) -> dict[str, Any]:
    """All that decides the weights; no time, no path."""
    return {
        "base": {"name": spec.base_name, "digest": provenance.directory_digest(spec.base)},
        "data": {
            "train": sha256_file(spec.train),
            "validation": sha256_file(spec.validation) if spec.validation else None,
        },
        "given": dict(sorted(spec.identity.items())),
        "prompt": spec.prompt.model_dump(mode="json"),
        "recipe": spec.recipe.model_dump(mode="json"),
        **({"champion": {"name": spec.champion.name, "weights": spec.champion.weights}} if spec.champion else {}),
        "compute": asdict(compute),
        "code": provenance.code_digest(),
        "environment": provenance.environment_digest(),
        "platform": provenance.platform_facts(),
    }


MACHINE = ("compute", "platform")


def resumable(identity: dict[str, Any]) -> dict[str, Any]:
    """What must be the same for a run to go on from a checkpoint: all of its identity but the machine it is on.

    Another machine goes on from the same numbers, and the manifest names both. Only one of the same processor, device
    and threads gives the same bits as a run that was never moved.
    """
    return {name: value for name, value in identity.items() if name not in MACHINE}


def digest(value: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
