"""Sequences of token ids as batches of like length, padded on the left. Knows no model."""

from collections.abc import Iterator, Sequence

import torch

MOST_ROWS = 256
PAD = 0
"""Fills rows. It is masked, so any id will do that every model has: a tokenizer's own may lie beyond its embeddings."""


def by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices in batches of at most `tokens` tokens with padding and MOST_ROWS rows, the longest first; one row fits always.

    The longest first, so that memory that does not suffice is noticed at once and not at the end.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) == MOST_ROWS or (len(batch) + 1) * lengths[batch[0]] > tokens):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def left_padded(rows: Sequence[Sequence[int]], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, both (rows, length of the longest), int64."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[PAD] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Position of each token in its own row, (rows, length); 0 on padding."""
    return (mask.cumsum(-1) - 1).clamp(min=0)
