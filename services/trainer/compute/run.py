"""One training run from its inputs to its result: prepare, train, write. Knows no artifact store and no event."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from services.lm import measured
from services.lm.files import sha256_file
from services.lm.learning import Encoded, Row, encode_records
from services.lm.measured import Compute
from services.lm.system_prompt import system_refusal
from services.lm.tokens import TextTokenizer, open_tokenizer
from services.trainer.compute import checkpoint, frozen_layers, loop, model, output, provenance, rows
from services.trainer.domain import schedule
from services.trainer.domain.failures import BadRecipe, Cancelled, EmptyDataset
from services.trainer.domain.packing import Limits, common_prefix, step_rows
from services.trainer.domain.spec import Progress, TrainResult, TrainSpec


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a run, training rows first; `train` is how many those are."""

    rows: list[Row]
    train: int
    prefix: int
    notes: dict[str, Any]
    left_out: dict[str, int]


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
    data = load_data(spec, tokenizer)
    net = model.prepare(spec.base, spec.base_name, spec.recipe.adapter, compute)
    compute = model.fitting(net, compute)
    weights = model.trainable(net)
    optimizer = loop.make_optimizer(weights, spec.recipe)
    identity = identify(spec, compute)
    state = checkpoint.load(workdir, digest(resumable(identity)), weights, optimizer)
    computed = {name: identity[name] for name in MACHINE}
    if computed not in state.computed[-1:]:
        state.computed.append(computed)
    pool = measured.pool(compute)
    task = loop.Task(
        spec.recipe, data.rows, data.train, data.prefix, limits(net, compute), compute, net, weights, optimizer, pool
    )

    def save(last: bool = False) -> None:
        checkpoint.save(workdir, state, weights, optimizer)
        saved(state.step, checkpoint.files(workdir, state), last)

    def halt() -> None:
        if stop():
            save(last=True)
            raise Cancelled(f"stopped on request after step {state.step}; the checkpoint is kept")

    with pool:
        task.lower = keep_lower(task, halt)
        loop.train(task, state, workdir, report, halt, save, spec.checkpoint_seconds)
    turns = {"turns": state.computed} if len(state.computed) > 1 else {}
    facts = identity | turns | {"rows": data.notes}
    return replace(output.write(spec, workdir, task, state, facts, tokenizer.backend), left_out=data.left_out)


def load_data(spec: TrainSpec, tokenizer: TextTokenizer) -> Data:
    """Both splits as rows, with the prefix that all of them share.

    Raises:
        EmptyDataset: no training row has a token to learn.
    """
    recipe = spec.recipe

    def encoded(split: Path) -> Encoded:
        records, tags = rows.read(split)
        return encode_records(records, tokenizer, spec.prompt, recipe.learn, recipe.max_length, tags)

    training, held = encoded(spec.train), encoded(spec.validation) if spec.validation else Encoded()
    if not training.rows:
        raise EmptyDataset(nothing_left(training.left_out))
    everything = training.rows + held.rows
    # With dropout the rows of a pack would share the prefix's mask, which plain training does not do.
    prefix = common_prefix(everything) if spec.recipe.adapter.dropout == 0 else 0
    return Data(everything, len(training.rows), prefix, counts(training, held), dict(sorted(training.left_out.items())))


def counts(training: Encoded, held: Encoded) -> dict[str, Any]:
    """Rows of both splits, and what was cut or left out of the training split, for the manifest."""
    return {
        "train": len(training.rows),
        "validation": len(held.rows),
        "truncated": training.cut,
        "left_out": dict(sorted(training.left_out.items())),
    }


def nothing_left(left_out: Mapping[str, int]) -> str:
    """What a run without rows fails with."""
    if not left_out:
        return "no training row has a completion to learn from: the split is empty"
    counted = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    return f"no training row has a completion to learn from; left out: {counted}"


def limits(net: Any, compute: Compute) -> Limits:
    """Pack size: on CPU small enough for the caches, on a GPU large enough to fill it; at most 1 GiB of float32 logits in all."""
    tokens = 512 if compute.device == "cpu" else 4096
    return Limits(tokens=tokens, targets=max(1, 2**28 // (net.config.vocab_size * compute.workers)))


def keep_lower(task: loop.Task, halt: Callable[[], None]) -> frozen_layers.CachedLowerLayers | None:
    """The kept states of the frozen lower layers, already in their place; None where there are none or too many."""
    first = model.first_trained_layer(task.net)
    steps = schedule.total_steps(task.recipe, task.train)
    a_pass = schedule.steps_per_epoch(task.train, task.recipe.batch_size)
    seen = {
        i for s in range(min(steps, a_pass)) for i in step_rows(task.train, task.recipe.batch_size, task.recipe.seed, s)
    }
    if steps > a_pass:
        seen = set(range(task.train))
    used = sorted(seen | set(range(task.train, len(task.rows))))
    dtype = task.compute.torch_dtype
    if (
        first == 0
        or frozen_layers.size(task.rows, used, task.prefix, task.net.config.hidden_size, dtype)
        > frozen_layers.LIMIT_BYTES
    ):
        return None
    task.net.eval()
    kept = frozen_layers.compute(
        task.net, first, task.rows, used, task.prefix, task.limits, dtype, halt, task.pool, task.compute.workers
    )
    task.net.train()
    frozen_layers.install(task.net, first, kept)
    return kept


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
