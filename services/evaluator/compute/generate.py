"""Greedy answers of a model to prompts, in big batches that shrink as rows end. Knows no record and no metric.

Not transformers' generate(): that one carries a row that has ended through every further step, and an untuned base
rambles to the last token while tuned answers end after ten.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from services.evaluator.compute.batches import by_length, left_padded, positions
from services.evaluator.compute.model import Loaded
from services.evaluator.compute.preallocated_cache import preallocated
from services.lm.device import memory_for_cache

SHRINK = 0.75
"""A batch is copied without its ended rows once fewer than this part of them are left."""


@torch.inference_mode()
def generate(
    loaded: Loaded, prompts: Sequence[Sequence[int]], max_tokens: int, done: Callable[[int], None]
) -> list[list[int]]:
    """New token ids for each prompt, without the end token, at most `max_tokens`; `done(n)` after every n prompts."""
    answers: list[list[int]] = [[] for _ in prompts]
    room = memory_for_cache(loaded.device) // loaded.bytes_a_token
    for batch in by_length([len(p) + max_tokens for p in prompts], room):
        for index, answer in zip(batch, _batch(loaded, [prompts[i] for i in batch], max_tokens), strict=True):
            answers[index] = answer
        done(len(batch))
    return answers


def _batch(loaded: Loaded, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
    ids, mask = left_padded(prompts, loaded.device)
    out = loaded.logits(
        keep=1, input_ids=ids, attention_mask=mask, position_ids=positions(mask), past_key_values=None, use_cache=True
    )
    return decode(loaded, out.logits[:, -1], mask, preallocated(out.past_key_values, max_tokens - 1), max_tokens)


@torch.inference_mode()
def decode(loaded: Loaded, logits: torch.Tensor, mask: torch.Tensor, cache: Any, max_tokens: int) -> list[list[int]]:
    """Answers after prompts that `cache` holds: `mask` (rows, width) shows where, `logits` (rows, vocabulary) what follows."""
    answers: list[list[int]] = [[] for _ in range(len(mask))]
    rows = list(range(len(mask)))
    open_rows = set(rows)
    chosen, places = logits.argmax(-1), positions(mask)[:, -1:]
    for step in range(max_tokens):
        _append(answers, rows, open_rows, chosen.tolist(), loaded.ends)
        if not open_rows or step == max_tokens - 1:
            break
        if len(open_rows) < SHRINK * len(rows) and hasattr(cache, "batch_select_indices"):
            stay = torch.tensor([at for at, row in enumerate(rows) if row in open_rows], device=loaded.device)
            cache.batch_select_indices(stay)
            chosen, mask, places, rows = chosen[stay], mask[stay], places[stay], [rows[i] for i in stay.tolist()]
        mask, places = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1), places + 1
        out = loaded.logits(
            keep=1,
            input_ids=chosen[:, None],
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
        )
        chosen, cache = out.logits[:, -1].argmax(-1), out.past_key_values
    return answers


def _append(
    answers: list[list[int]], rows: list[int], open_rows: set[int], chosen: list[int], ends: frozenset[int]
) -> None:
    """Give each row that has not ended its next token; one that gets an end token is taken out of `open_rows`."""
    for row, token in zip(rows, chosen, strict=True):
        if row not in open_rows:
            continue
        if token in ends:
            open_rows.discard(row)
        else:
            answers[row].append(token)


def step_of(loaded: Loaded, rows: int) -> Callable[[], Any]:
    """One pass over `rows` rows of a few tokens, for choosing the number of threads."""
    ids = torch.ones(rows, 4, dtype=torch.long, device=loaded.device)

    @torch.inference_mode()
    def step() -> Any:
        return loaded.logits(keep=1, input_ids=ids, use_cache=False)

    return step
