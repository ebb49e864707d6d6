"""The training loop: steps, validation, checkpoints, progress."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contracts.project import Train
from services.lm.learning import Row
from services.lm.measured import Compute
from services.trainer.compute import checkpoint
from services.trainer.compute.checkpoint import State
from services.trainer.compute.forward import collate, loss_sum
from services.trainer.compute.frozen_layers import CachedLowerLayers
from services.trainer.domain import schedule
from services.trainer.domain.failures import LossNotFinite
from services.trainer.domain.packing import Limits, deal, split, step_rows
from services.trainer.domain.spec import Progress

MAX_GRAD_NORM = 1.0
"""As in transformers' TrainingArguments."""


@dataclass(slots=True)
class Task:
    """Everything that stays the same during a run; `rows[:train]` are learnt, the others validate.

    `pool` has `compute.workers` threads: each takes a share of a step's rows.
    """

    recipe: Train
    rows: list[Row]
    train: int
    prefix: int
    limits: Limits
    compute: Compute
    net: Any
    weights: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    pool: ThreadPoolExecutor
    lower: CachedLowerLayers | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return schedule.total_steps(self.recipe, self.train)

    @property
    def epoch_steps(self) -> int:
        """Steps of one pass."""
        return schedule.steps_per_epoch(self.train, self.recipe.batch_size)


def make_optimizer(weights: dict[str, nn.Parameter], recipe: Train) -> torch.optim.Optimizer:
    """AdamW with decay on matrices alone, as transformers' Trainer has it."""
    groups = [
        {"params": [p for p in weights.values() if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in weights.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate, fused=True)


def train(
    task: Task,
    state: State,
    workdir: Path,
    report: Callable[[Progress], None],
    halt: Callable[[], None],
    save: Callable[[], None],
    every: float,
) -> None:
    """Run the steps that are left, then put the best epoch's weights into the model. `halt` may raise between steps.

    `save` publishes a checkpoint: after each epoch, and `every` so many seconds.
    """
    clock, saved, told = time.monotonic(), time.monotonic(), 0.0
    fresh_tokens, start = state.tokens, time.monotonic()
    while state.step < task.steps:
        halt()
        loss, rate = step(task, state)
        state.seconds, clock = state.seconds + time.monotonic() - clock, time.monotonic()
        ended = state.step % task.epoch_steps == 0 or state.step == task.steps
        if ended:
            _end_epoch(task, state, workdir)
        if ended or clock - told >= 1:
            told, speed = clock, (state.tokens - fresh_tokens) / max(1e-9, clock - start)
            report(_progress(task, state, loss, rate, speed))
        if ended or clock - saved >= every:
            save()
            saved = time.monotonic()
    if state.best_step is not None and state.best_step != state.step:
        checkpoint.load_best(workdir, state.best_step, task.weights)


def step(task: Task, state: State) -> tuple[float, float]:
    """One optimiser step; the mean loss per target before it, and the learning rate."""
    chosen = step_rows(task.train, task.recipe.batch_size, task.recipe.seed, state.step)
    rate = schedule.learning_rate(task.recipe, state.step, task.steps)
    targets = sum(task.rows[i].targets for i in chosen)
    shares = deal(chosen, task.rows, task.compute.workers)
    total = _take(task, list(task.pool.map(lambda share: _gradients(task, share, targets), shares)))
    if not math.isfinite(total):
        raise LossNotFinite(
            f"the loss is {total} at step {state.step + 1} with learning rate {rate:.3g}; "
            "lower train.learning_rate or raise train.warmup_ratio"
        )
    torch.nn.utils.clip_grad_norm_(task.weights.values(), MAX_GRAD_NORM, foreach=True)
    for group in task.optimizer.param_groups:
        group["lr"] = rate
    task.optimizer.step()
    task.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    state.tokens += sum(len(task.rows[i].ids) for i in chosen)
    state.epoch_loss += total
    state.epoch_targets += targets
    return total / targets, rate


def _gradients(task: Task, share: Sequence[int], targets: int) -> tuple[float, list[Tensor | None]]:
    """Sum of the losses of the rows of `share`, and the gradients of it divided by `targets`, by weight."""
    weights, total = list(task.weights.values()), 0.0
    summed: list[Tensor | None] = [None] * len(weights)
    for pack in split(share, task.rows, task.prefix, task.limits):
        loss = _pack_loss(task, pack)
        found = torch.autograd.grad(loss / targets, weights, allow_unused=True)
        summed = [_plus(old, new) for old, new in zip(summed, found, strict=True)]
        total += float(loss.detach())
    return total, summed


def _take(task: Task, found: Sequence[tuple[float, list[Tensor | None]]]) -> float:
    """Give the weights the sum of all shares' gradients, always in one order: bits depend on it. The sum of the losses."""
    for weight, *parts in zip(task.weights.values(), *(gradients for _, gradients in found), strict=True):
        weight.grad = reduce(_plus, parts)
    return sum(loss for loss, _ in found)


def _plus(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left.add_(right)


def _pack_loss(task: Task, chosen: Sequence[int]) -> torch.Tensor:
    pack = collate(chosen, task.rows, task.prefix, task.compute.device, task.compute.torch_dtype)
    if task.lower is not None:
        task.lower.set_pack(pack)
    return loss_sum(task.net, pack, task.compute.torch_dtype)


def _loss(task: Task, chosen: Sequence[int]) -> float:
    with torch.no_grad():
        return float(_pack_loss(task, chosen))


def validate(task: Task) -> float | None:
    """Mean loss per target of the validation rows; None where there are none."""
    held = range(task.train, len(task.rows))
    if not held:
        return None
    task.net.eval()
    total = sum(task.pool.map(lambda pack: _loss(task, pack), split(held, task.rows, task.prefix, task.limits)))
    task.net.train()
    return total / sum(task.rows[i].targets for i in held)


def _end_epoch(task: Task, state: State, workdir: Path) -> None:
    """Record the epoch's losses; keep the weights where validation is the best so far."""
    state.train_losses.append(state.epoch_loss / max(1, state.epoch_targets))
    state.epoch_loss, state.epoch_targets = 0.0, 0
    loss = validate(task)
    if loss is None:
        return
    if not math.isfinite(loss):
        raise LossNotFinite(f"the validation loss is {loss} after step {state.step}; lower train.learning_rate")
    state.validation_losses.append(loss)
    if state.best_loss is None or loss < state.best_loss:
        state.best_step, state.best_loss = state.step, loss
        checkpoint.save_best(workdir, state.step, task.weights)


def _progress(task: Task, state: State, loss: float, rate: float, speed: float) -> Progress:
    return Progress(
        step=state.step,
        total_steps=task.steps,
        epoch=round(state.step / task.epoch_steps, 3),
        loss=loss,
        validation_loss=state.validation_losses[-1] if state.validation_losses else None,
        learning_rate=rate,
        tokens=state.tokens,
        tokens_per_second=speed,
        eta_seconds=state.seconds / max(1, state.step) * (task.steps - state.step),
    )
