"""One training run from its inputs to its result: prepare, train, write. Knows no artifact store and no event."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.trainer.compute import checkpoint, device, frozen_layers, loop, model, output, provenance, rows
from services.trainer.compute.device import Compute
from services.trainer.compute.files import sha256_file
from services.trainer.domain import schedule
from services.trainer.domain.failures import Cancelled, EmptyDataset
from services.trainer.domain.packing import Limits, Row, common_prefix, step_rows
from services.trainer.domain.spec import Progress, TrainResult, TrainSpec


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a run, training rows first; `train` is how many those are."""

    rows: list[Row]
    train: int
    prefix: int
    notes: dict[str, int]


def train(spec: TrainSpec, workdir: Path, report: Callable[[Progress], None], stop: Callable[[], bool]) -> TrainResult:
    """Run `spec` in `workdir`, going on from a checkpoint that lies there; the result's files are in `workdir`/output.

    Raises:
        TrainingFailed: one of the tree in domain/failures.py.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    compute = device.choose(spec.cache)
    device.apply(compute, spec.recipe.seed)
    tokenizer = rows.load_tokenizer(spec.base)
    data = load_data(spec, tokenizer)
    net = model.prepare(spec.base, spec.base_name, spec.recipe.adapter, compute)
    weights = model.trainable(net)
    optimizer = loop.make_optimizer(weights, spec.recipe)
    identity = identify(spec, compute)
    state = checkpoint.load(workdir, digest(identity), weights, optimizer)
    task = loop.Task(
        spec.recipe, data.rows, data.train, data.prefix, limits(net, compute), compute, net, weights, optimizer
    )

    def halt() -> None:
        if stop():
            checkpoint.save(workdir, state, weights, optimizer)
            raise Cancelled(f"stopped on request after step {state.step}; the checkpoint is kept")

    task.lower = keep_lower(task, halt)
    loop.train(task, state, workdir, report, halt, spec.checkpoint_seconds)
    return output.write(spec, workdir, task, state, identity | {"rows": data.notes}, tokenizer)


def load_data(spec: TrainSpec, tokenizer: Any) -> Data:
    """Both splits as rows, with the prefix that all of them share.

    Raises:
        EmptyDataset: no training row has a token to learn.
    """
    encode = rows.encode
    training, notes = encode(rows.read(spec.train), tokenizer, spec.prompt, spec.recipe.max_length)
    if not training:
        raise EmptyDataset(
            f"no training row has a completion to learn from; left out: {dict(notes) or 'none, the split is empty'}"
        )
    held = rows.read(spec.validation) if spec.validation else []
    validation, _ = encode(held, tokenizer, spec.prompt, spec.recipe.max_length)
    everything = training + validation
    # With dropout the rows of a pack would share the prefix's mask, which plain training does not do.
    prefix = common_prefix(everything) if spec.recipe.adapter.dropout == 0 else 0
    return Data(everything, len(training), prefix, {"train": len(training), "validation": len(validation), **notes})


def limits(net: Any, compute: Compute) -> Limits:
    """Pack size: on CPU small enough for the caches, on a GPU large enough to fill it; at most 1 GiB of float32 logits."""
    tokens = 512 if compute.device == "cpu" else 4096
    return Limits(tokens=tokens, targets=max(1, 2**28 // net.config.vocab_size))


def keep_lower(task: loop.Task, halt: Callable[[], None]) -> frozen_layers.Lower | None:
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
    kept = frozen_layers.compute(task.net, first, task.rows, used, task.prefix, task.limits, dtype, halt)
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
        "compute": {"device": compute.device, "dtype": compute.dtype, "threads": compute.threads},
        "code": provenance.code_digest(),
        "environment": provenance.environment_digest(),
        "platform": provenance.platform_facts(),
    }


def digest(value: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
