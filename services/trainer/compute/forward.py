"""A pack of units as tensors, and its loss. The output head is computed only where a token is to be learnt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.trainer.domain.units import Unit

FILL = {torch.bfloat16: 32, torch.float32: 8}
"""Tokens of a pass are filled up to a multiple of this: oneDNN compiles a kernel for every new shape of bfloat16; float32
goes to a BLAS that compiles none and works in small tiles."""


@dataclass(frozen=True, slots=True)
class Pack:
    """T tokens of one forward pass: the shared prefix, then each unit's own part, in it what its rows share first."""

    units: tuple[int, ...]
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
    lengths: tuple[int, ...]
    """how many of the targets are of each row, in the order of the units"""


@dataclass(slots=True)
class _Line:
    """The tokens of a pack as they are put together; `unit` and `row` say whose each is, row 0: of all rows of the unit."""

    ids: list[int]
    positions: list[int]
    unit: list[int]
    row: list[int]

    def add(self, ids: Sequence[int], begin: int, unit: int, row: int) -> int:
        """Put the tokens `ids[begin:]` at the end; what has to be added to a place in `ids` to find it in the pack."""
        offset = len(self.ids) - begin
        self.ids += ids[begin:]
        self.positions += range(begin, len(ids))
        self.unit += [unit] * (len(ids) - begin)
        self.row += [row] * (len(ids) - begin)
        return offset


def collate(chosen: Sequence[int], units: Sequence[Unit], prefix: int, device: str, dtype: torch.dtype) -> Pack:
    """The pack of the units `chosen`; their first `prefix` tokens are one and the same and stand once.

    Tokens and targets are filled up to a multiple of FILL.
    """
    line = _Line([], [], [], [])
    line.add(units[chosen[0]].rows[0].ids[:prefix], 0, -1, 0)
    keep: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    for index in chosen:
        unit, begin = units[index], max(prefix, units[index].shared)
        head = line.add(unit.rows[0].ids[:begin], prefix, index, 0)
        for number, row in enumerate(unit.rows, 1):
            own = line.add(row.ids, begin, index, number)
            for start, end in row.learnt:
                keep += (at + (0 if at < prefix else head if at < begin else own) for at in range(start - 1, end - 1))
                targets += row.ids[start:end]
            lengths.append(row.targets)
    blank, spare = -len(line.ids) % FILL[dtype], -len(keep) % FILL[dtype]
    several = len(chosen) > 1 or len(lengths) > 1
    return Pack(
        units=tuple(chosen),
        ids=torch.tensor([line.ids + [line.ids[0]] * blank], device=device),
        positions=torch.tensor([line.positions + [0] * blank], device=device),
        mask=_mask(line.unit + [-2] * blank, line.row + [0] * blank, prefix, dtype).to(device) if several else None,
        keep=torch.tensor(keep + [0] * spare, device=device),
        targets=torch.tensor(targets, device=device),
        lengths=tuple(lengths),
    )


def _mask(units: list[int], rows: list[int], prefix: int, dtype: torch.dtype) -> Tensor:
    """Each token sees the prefix, and of its unit what stands before it in its own row or is of all rows. -> (1, 1, T, T)."""
    unit, row = torch.tensor(units), torch.tensor(rows)
    own = (unit[:, None] == unit[None, :]) & ((row[None, :] == 0) | (row[:, None] == row[None, :]))
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


def log_probs(model: Any, pack: Pack, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Log-probabilities of the targets in nats, a tensor (t,) for each row of the pack."""
    found = logits(model, pack, dtype)[: len(pack.targets)].float()
    return (-torch.nn.functional.cross_entropy(found, pack.targets, reduction="none")).split(pack.lengths)
