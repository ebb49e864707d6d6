"""Mean cross-entropy a completion token of each example, in nats. Knows no record and no metric."""

from collections.abc import Callable, Sequence

import torch

from services.evaluator.compute.batches import by_length, left_padded, positions
from services.evaluator.compute.model import Loaded
from services.evaluator.compute.rows import Encoded

LOGITS = 256 * 2**20
"""Most bytes that one batch's logits would take in float32 if they were kept for every token."""


@torch.inference_mode()
def losses(loaded: Loaded, rows: Sequence[Encoded], done: Callable[[int], None]) -> list[float]:
    """A loss for each row; NaN where the model gives one, and where nothing is left to predict; `done(n)` after every n rows."""
    result = [float("nan")] * len(rows)
    for batch in by_length([len(row.ids) for row in rows], most_tokens(loaded)):
        for index, value in zip(batch, _batch(loaded, [rows[i] for i in batch]), strict=True):
            result[index] = value
        done(len(batch))
    return result


def most_tokens(loaded: Loaded) -> int:
    """Tokens of a pass whose logits are all kept."""
    return max(1, LOGITS // (4 * int(loaded.model.config.vocab_size)))


def _batch(loaded: Loaded, rows: Sequence[Encoded]) -> list[float]:
    ids, mask = left_padded([row.ids for row in rows], loaded.device)
    learnt = max(1, *(len(row.ids) - row.start for row in rows))
    out = loaded.logits(
        keep=learnt + 1, input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=False
    )
    counted = torch.tensor(
        [[i >= learnt - (len(row.ids) - row.start) for i in range(learnt)] for row in rows], device=loaded.device
    )
    return row_losses(out.logits[:, :-1], ids[:, -learnt:], counted)


def row_losses(logits: torch.Tensor, ids: torch.Tensor, counted: torch.Tensor) -> list[float]:
    """Mean loss of each row over the tokens that count: (rows, width, vocabulary), (rows, width) and (rows, width) of bool."""
    each = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), ids.masked_fill(~counted, -100).flatten(), reduction="none", ignore_index=-100
    ).view(ids.shape)
    return (each.sum(-1) / counted.sum(-1)).tolist()
