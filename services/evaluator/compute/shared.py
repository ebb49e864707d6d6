"""Losses and answers of rows whose prompts are read once for both, and what all prompts begin with once for all rows.

Passes are small and of like length, so that little padding is read; their keys and values then lie side by side in one
cache, and all rows are answered together. For models whose layers keep every key and value (Loaded.shares_prompts).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers.cache_utils import DynamicCache

from services.evaluator.compute.batches import PAD, by_length, left_padded, positions
from services.evaluator.compute.generate import decode
from services.evaluator.compute.loss import most_tokens, row_losses
from services.evaluator.compute.model import Loaded
from services.evaluator.compute.preallocated_cache import apart, joined, repeated
from services.evaluator.compute.rows import Encoded
from services.lm.device import memory_for_cache, tokens_a_pass

Answer = list[int]


@dataclass(frozen=True, slots=True)
class Pass:
    """Prompts that were read together. `mask`: (rows, width); `logits`: (rows, vocabulary) of what follows each."""

    rows: list[int]
    cache: DynamicCache
    mask: torch.Tensor
    logits: torch.Tensor


@torch.inference_mode()
def predict(
    loaded: Loaded, rows: Sequence[Encoded], max_tokens: int, done: Callable[[int], None], *, loss: bool, answer: bool
) -> tuple[list[float | None], list[Answer | None]]:
    """A loss for each row where `loss`, and an answer of at most `max_tokens` where `answer` and it has a prompt.

    A loss is NaN where the model gives one, and where nothing is left to predict. `done(n)` after every n of either.
    """
    losses: list[float | None] = [None] * len(rows)
    answers: list[Answer | None] = [None] * len(rows)
    plain = [i for i, row in enumerate(rows) if not row.prompt]
    asked = [i for i, row in enumerate(rows) if row.prompt]
    for group, new in ((asked, max_tokens if answer else 0), (plain, 0)):
        start, beginning = _beginning(loaded, [rows[i].ids[: rows[i].start] for i in group])
        room = memory_for_cache(loaded.device) // loaded.bytes_a_token
        for batch in by_length([rows[i].start + new for i in group], room):
            parts: list[Pass] = []
            for part in _passes(loaded, rows, [group[at] for at in batch], start, beginning):
                if new:
                    parts.append(part)
                if loss:
                    for row, value in zip(part.rows, _losses(loaded, [rows[i] for i in part.rows], part), strict=True):
                        losses[row] = value
                    done(len(part.rows))
            if new:
                order = [row for part in parts for row in part.rows]
                for row, ids in zip(order, _answers(loaded, parts, new), strict=True):
                    answers[row] = ids
                done(len(order))
    return losses, answers


def _beginning(loaded: Loaded, prompts: Sequence[tuple[int, ...]]) -> tuple[int, DynamicCache | None]:
    """How many tokens all prompts begin with, one of each left over, and their keys and values, one row."""
    start = min(common_length(prompts), min(map(len, prompts), default=0) - 1)
    if len(prompts) < 2 or start < 1:
        return 0, None
    ids = torch.tensor([list(prompts[0][:start])], device=loaded.device)
    places = torch.arange(start, device=loaded.device)[None]
    out = loaded.logits(keep=1, input_ids=ids, position_ids=places, use_cache=True)
    return start, out.past_key_values


def common_length(rows: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all rows begin with: what the first and the last of them in order share."""
    if not rows:
        return 0
    first, last = min(rows), max(rows)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _passes(
    loaded: Loaded, rows: Sequence[Encoded], batch: Sequence[int], start: int, beginning: DynamicCache | None
) -> Iterator[Pass]:
    tokens = min(tokens_a_pass(loaded.device), most_tokens(loaded))
    for part in by_length([len(rows[i].ids) - start for i in batch], tokens):
        members = [batch[at] for at in part]
        ids, seen = left_padded([rows[i].ids[start : rows[i].start] for i in members], loaded.device)
        mask = torch.cat([seen.new_ones(len(members), start), seen], dim=1)
        out = loaded.logits(
            keep=1,
            input_ids=ids,
            attention_mask=mask,
            position_ids=start + positions(seen),
            past_key_values=repeated(beginning, len(members)),
            use_cache=True,
        )
        yield Pass(members, out.past_key_values, mask, out.logits[:, -1])


def _losses(loaded: Loaded, rows: Sequence[Encoded], read: Pass) -> list[float]:
    """Reads the rows' answers behind their prompts; the pass's own cache stays as it is."""
    wanted = [row.ids[row.start :] for row in rows]
    width = max(map(len, wanted))
    padded = [[*ids, *[PAD] * (width - len(ids))] for ids in wanted]
    ids = torch.tensor(padded, dtype=torch.long, device=loaded.device)
    counted = torch.tensor(
        [[i < len(ids) for i in range(width)] for ids in wanted], dtype=torch.bool, device=loaded.device
    )
    logits = read.logits[:, None]
    if width > 1:
        steps = torch.arange(1, width, device=loaded.device)
        # Padding behind an answer may lie behind the last place that a model with learnt positions has.
        places = (positions(read.mask)[:, -1:] + steps).clamp(max=loaded.context - 1)
        out = loaded.logits(
            keep=width - 1,
            input_ids=ids[:, :-1],
            attention_mask=torch.cat([read.mask, read.mask.new_ones(len(rows), width - 1)], dim=1),
            position_ids=places,
            past_key_values=apart(read.cache),
            use_cache=True,
        )
        logits = torch.cat([logits, out.logits], dim=1)
    return row_losses(logits[:, :width], ids, counted)


def _answers(loaded: Loaded, parts: Sequence[Pass], max_tokens: int) -> list[Answer]:
    """Answers to the prompts of several passes together, in their order."""
    width = max(part.mask.shape[1] for part in parts)
    mask = torch.cat([torch.nn.functional.pad(part.mask, (width - part.mask.shape[1], 0)) for part in parts])
    cache = joined([part.cache for part in parts], width, max_tokens - 1)
    return decode(loaded, torch.cat([part.logits for part in parts]), mask, cache, max_tokens)
