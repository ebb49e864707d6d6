"""The training loop of one stage: steps, validation, checkpoints, progress."""

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
from services.lm.measured import Compute
from services.trainer.compute import checkpoint
from services.trainer.compute.checkpoint import State
from services.trainer.compute.forward import Pack, collate, log_probs, loss_sum
from services.trainer.compute.frozen_layers import CachedLowerLayers
from services.trainer.compute.objective import Batch, Figures, Objective, add, means
from services.trainer.domain import schedule
from services.trainer.domain.failures import LossNotFinite
from services.trainer.domain.packing import Limits, deal, split, step_rows
from services.trainer.domain.spec import Progress
from services.trainer.domain.units import Unit

MAX_GRAD_NORM = 1.0
"""As in transformers' TrainingArguments."""


@dataclass(slots=True)
class Task:
    """Everything that stays the same during a stage; of the units those of `train` are learnt, those of `held` validate.

    `recipe` is the stage's own. Without an objective the units are learnt as in sft. `pool` has `compute.workers` threads: each
    takes a share of a step's units. `whole` is the number of steps of all stages.
    """

    recipe: Train
    units: list[Unit]
    train: Sequence[int]
    held: Sequence[int]
    prefix: int
    limits: Limits
    compute: Compute
    net: Any
    weights: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    pool: ThreadPoolExecutor
    whole: int
    lower: CachedLowerLayers | None = None
    objective: Objective | None = None

    @property
    def steps(self) -> int:
        """Steps of the stage."""
        return schedule.total_steps(self.recipe, len(self.train))

    @property
    def epoch_steps(self) -> int:
        """Steps of one pass."""
        return schedule.steps_per_epoch(len(self.train), self.recipe.batch_size)


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
    seconds: float = math.inf,
) -> None:
    """Run the steps that are left, then put the best epoch's weights into the model. `halt` may raise between steps.

    `save` publishes a checkpoint: after each epoch, and `every` so many seconds. Once all steps of the run have taken `seconds`,
    the step under way is the last one.
    """
    clock, saved, told = time.monotonic(), time.monotonic(), 0.0
    fresh_tokens, start = state.tokens, time.monotonic()
    spent = False
    while state.stage_step < task.steps and not spent:
        halt()
        loss, rate = step(task, state)
        state.seconds, clock = state.seconds + time.monotonic() - clock, time.monotonic()
        spent = state.seconds >= seconds
        ended = spent or state.stage_step % task.epoch_steps == 0 or state.stage_step == task.steps
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
    """One optimiser step; the mean loss per target (of preferences: per unit) before it, and the learning rate."""
    places = step_rows(len(task.train), task.recipe.batch_size, task.recipe.seed, state.stage_step)
    chosen = [task.train[place] for place in places]
    rate = schedule.learning_rate(task.recipe, state.stage_step, task.steps)
    batch = _begin(task, chosen)
    shares = deal(chosen, task.units, task.compute.workers)
    total, figures = _take(task, list(task.pool.map(lambda share: _gradients(task, share, batch), shares)))
    if not math.isfinite(total):
        raise LossNotFinite(
            f"the loss is {total} at step {state.step + 1} with learning rate {rate:.3g}; "
            f"lower train.{'' if task.objective is None else 'preference.'}learning_rate or raise train.warmup_ratio"
        )
    torch.nn.utils.clip_grad_norm_(task.weights.values(), MAX_GRAD_NORM, foreach=True)
    for group in task.optimizer.param_groups:
        group["lr"] = rate
    task.optimizer.step()
    task.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    state.tokens += sum(task.units[i].tokens for i in chosen)
    state.epoch_loss += total
    state.epoch_targets += batch.divisor
    state.epoch_figures = add(state.epoch_figures, figures)
    return total / batch.divisor, rate


def _begin(task: Task, chosen: Sequence[int]) -> Batch:
    """What every pack of a step has to know. For kto the KL term is estimated first, without a gradient."""
    if task.objective is None:
        return Batch(float(sum(task.units[i].targets for i in chosen)))
    packs = split(task.objective.mismatches(chosen), task.units, task.prefix, task.limits)
    ratios = [r for pack, found in answers(task, packs) for r in task.objective.divergence(pack, found)]
    return task.objective.batch(chosen, max(0.0, math.fsum(ratios) / len(ratios)) if ratios else 0.0)


def answers(task: Task, packs: Sequence[list[int]]) -> list[tuple[Pack, tuple[Tensor, ...]]]:
    """Log-probabilities of packs without a gradient, in their order."""

    def answer(chosen: list[int]) -> tuple[Pack, tuple[Tensor, ...]]:
        with torch.no_grad():
            pack = _pack(task, chosen)
            return pack, log_probs(task.net, pack, task.compute.torch_dtype)

    return list(task.pool.map(answer, packs))


Share = tuple[float, Figures, list[Tensor | None]]


def _gradients(task: Task, share: Sequence[int], batch: Batch) -> Share:
    """Sum of the losses of the units of `share`, their figures, and the gradients of the sum by the divisor, by weight."""
    weights, total = list(task.weights.values()), 0.0
    figures: Figures = {}
    summed: list[Tensor | None] = [None] * len(weights)
    for pack in split(share, task.units, task.prefix, task.limits):
        loss, told = _pack_loss(task, pack, batch)
        found = torch.autograd.grad(loss / batch.divisor, weights, allow_unused=True)
        summed = [_plus(old, new) for old, new in zip(summed, found, strict=True)]
        total += float(loss.detach())
        figures = add(figures, told)
    return total, figures, summed


def _take(task: Task, found: Sequence[Share]) -> tuple[float, Figures]:
    """Give the weights the sum of all shares' gradients, always in one order: bits depend on it. The sums of the rest."""
    for weight, *parts in zip(task.weights.values(), *(gradients for _, _, gradients in found), strict=True):
        weight.grad = reduce(_plus, parts)
    return sum(loss for loss, _, _ in found), reduce(add, (figures for _, figures, _ in found))


def _plus(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left.add_(right)


def _pack(task: Task, chosen: Sequence[int]) -> Pack:
    pack = collate(chosen, task.units, task.prefix, task.compute.device, task.compute.torch_dtype)
    if task.lower is not None:
        task.lower.set_pack(pack)
    return pack


def _pack_loss(task: Task, chosen: Sequence[int], batch: Batch) -> tuple[Tensor, Figures]:
    pack, dtype = _pack(task, chosen), task.compute.torch_dtype
    if task.objective is None:
        return loss_sum(task.net, pack, dtype), {}
    return task.objective.loss(pack, log_probs(task.net, pack, dtype), batch)


def _loss(task: Task, chosen: Sequence[int], batch: Batch) -> tuple[float, Figures]:
    with torch.no_grad():
        loss, figures = _pack_loss(task, chosen, batch)
        return float(loss), figures


def validate(task: Task) -> tuple[float, dict[str, float]] | None:
    """Mean loss per target, or per unit of preferences, of what is held, and the figures; None where nothing is."""
    if not task.held:
        return None
    task.net.eval()
    batch = _begin(task, task.held)
    packs = split(task.held, task.units, task.prefix, task.limits)
    found = list(task.pool.map(lambda pack: _loss(task, pack, batch), packs))
    task.net.train()
    return sum(loss for loss, _ in found) / batch.divisor, means(reduce(add, (figures for _, figures in found)))


def _end_epoch(task: Task, state: State, workdir: Path) -> None:
    """Record the epoch's losses; keep the weights where validation is the best so far."""
    state.train_losses.append(state.epoch_loss / max(1, state.epoch_targets))
    state.train_figures = means(state.epoch_figures)
    state.epoch_loss, state.epoch_targets, state.epoch_figures = 0.0, 0, {}
    found = validate(task)
    if found is None:
        return
    loss, figures = found
    if not math.isfinite(loss):
        raise LossNotFinite(f"the validation loss is {loss} after step {state.step}; lower train.learning_rate")
    state.validation_losses.append(loss)
    if state.best_loss is None or loss < state.best_loss:
        state.best_step, state.best_loss, state.best_figures = state.step, loss, figures
        checkpoint.save_best(workdir, state.step, task.weights)


def _progress(task: Task, state: State, loss: float, rate: float, speed: float) -> Progress:
    preferred = task.objective is not None
    return Progress(
        step=state.step,
        total_steps=task.whole,
        epoch=round(state.stage_step / task.epoch_steps, 3),
        loss=loss,
        validation_loss=state.validation_losses[-1] if state.validation_losses else None,
        learning_rate=rate,
        tokens=state.tokens,
        tokens_per_second=speed,
        eta_seconds=state.seconds / max(1, state.step) * (task.whole - state.step),
        method=task.objective.method if task.objective else "sft",
        preference=(means(state.epoch_figures) or state.train_figures) if preferred else None,
    )
