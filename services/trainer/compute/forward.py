"""A pack of rows as tensors, and its loss. The output head is computed only where a token is to be learnt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.lm.learning import Row

FILL = {torch.bfloat16: 32, torch.float32: 8}
"""Tokens of a pass are filled up to a multiple of this: oneDNN compiles a kernel for every new shape of bfloat16; float32
goes to a BLAS that compiles none and works in small tiles."""


@dataclass(frozen=True, slots=True)
class Pack:
    """T tokens of one forward pass: the shared prefix, then each row's own part."""

    rows: tuple[int, ...]
    ids: Tensor
    """(1, T)"""
    positions: Tensor
    """(1, T), counted anew in each row"""
    mask: Tensor | None
    """(1, 1, T, T), 0 where a query (row of the matrix) may look, else very negative; absent where causality is all"""
    keep: Tensor
    """positions in the pack whose next token is learnt, filled up with zeros"""
    targets: Tensor
    """(n,), those next tokens"""


def collate(chosen: Sequence[int], rows: Sequence[Row], prefix: int, device: str, dtype: torch.dtype) -> Pack:
    """The pack of the rows `chosen`; their first `prefix` tokens are one and the same and stand once.

    Tokens and targets are filled up to a multiple of FILL.
    """
    ids, positions, segment = list(rows[chosen[0]].ids[:prefix]), list(range(prefix)), [-1] * prefix
    keep: list[int] = []
    targets: list[int] = []
    for index in chosen:
        row, offset = rows[index], len(ids) - prefix
        ids += row.ids[prefix:]
        positions += range(prefix, len(row.ids))
        segment += [index] * (len(row.ids) - prefix)
        for start, end in row.learnt:
            keep += range(offset + start - 1, offset + end - 1)
            targets += row.ids[start:end]
    blank, spare = -len(ids) % FILL[dtype], -len(keep) % FILL[dtype]
    segment += [-2] * blank
    return Pack(
        rows=tuple(chosen),
        ids=torch.tensor([ids + [ids[0]] * blank], device=device),
        positions=torch.tensor([positions + [0] * blank], device=device),
        mask=_mask(torch.tensor(segment), prefix, dtype).to(device) if len(chosen) > 1 else None,
        keep=torch.tensor(keep + [0] * spare, device=device),
        targets=torch.tensor(targets, device=device),
    )


def _mask(segment: Tensor, prefix: int, dtype: torch.dtype) -> Tensor:
    """Each token sees the prefix and what stands before it in its own row. (T,) -> (1, 1, T, T)."""
    own = segment[:, None] == segment[None, :]
    own[:, :prefix] = True
    return torch.zeros(own.shape, dtype=dtype).masked_fill_(~own.tril_(), torch.finfo(dtype).min)[None, None]


def logits(model: Any, pack: Pack, dtype: torch.dtype) -> Tensor:
    """(len(keep), vocabulary) at `pack.keep`, in the computing dtype."""
    # The cache of cast weights belongs to all threads, and the first to leave clears it; a pass uses a weight once anyway.
    with torch.autocast(
        pack.ids.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16, cache_enabled=False
    ):
        output = model(
            input_ids=pack.ids,
            attention_mask=pack.mask,
            position_ids=pack.positions,
            logits_to_keep=pack.keep,
            use_cache=False,
        )
    return output.logits.squeeze(0)


def loss_sum(model: Any, pack: Pack, dtype: torch.dtype) -> Tensor:
    """Sum of the cross entropies of the pack's targets, in nats."""
    found = logits(model, pack, dtype)[: len(pack.targets)].float()
    return torch.nn.functional.cross_entropy(found, pack.targets, reduction="sum")
