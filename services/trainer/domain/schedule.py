"""How many steps a recipe means and the learning rate at each; pure arithmetic."""

import math
from collections.abc import Sequence

from contracts.project import Train
from services.trainer.domain.packing import step_rows


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Optimiser steps of one pass; the last one may hold fewer rows."""
    return math.ceil(rows / batch_size)


def total_steps(recipe: Train, rows: int) -> int:
    """Steps of the whole run: `max_steps` where given, otherwise `epochs` passes, at least one step."""
    if recipe.max_steps is not None:
        return recipe.max_steps
    return max(1, round(recipe.epochs * steps_per_epoch(rows, recipe.batch_size)))


def affordable(recipe: Train, tokens: Sequence[int], budget: int) -> tuple[int, int]:
    """(steps, tokens) of the longest run of `recipe`'s steps whose rows, of so many `tokens` each, hold at most `budget`."""
    spent = 0
    for step in range(total_steps(recipe, len(tokens))):
        more = sum(tokens[row] for row in step_rows(len(tokens), recipe.batch_size, recipe.seed, step))
        if spent + more > budget:
            return step, spent
        spent += more
    return total_steps(recipe, len(tokens)), spent


def learning_rate(recipe: Train, step: int, total: int) -> float:
    """Rate of step `step` (from 0): linear warm-up, then as `lr_scheduler` says.

    The formulas are those of transformers.optimization (get_linear_schedule_with_warmup, get_cosine_schedule_with_warmup),
    with the warm-up shifted by one so that the first step is not lost on a rate of zero.
    """
    warmup = math.ceil(recipe.warmup_ratio * total)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total - warmup)
    if recipe.lr_scheduler == "linear":
        return recipe.learning_rate * (1 - done)
    if recipe.lr_scheduler == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return recipe.learning_rate
