"""Linear layers that add each row's LoRA to the base's product; it knows neither files nor requests.

All adapters of a batch are laid side by side: A (sum of ranks, in) and B (out, sum of ranks), and a mask (rows, sum
of ranks) keeps each row to its own. Two products then serve any mixture, base rows included, as in S-LoRA
(arXiv:2311.03285) without its kernels.

An answer does not depend on its neighbours, to the last bit: oneDNN's packed bf16 products are the same for any number
of rows, and the adapters' small fp32 products, which are not, are always made with the same number of rows, or with one
block of a prompt.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from services.lm.adapters import Adapter

Pair = tuple[torch.Tensor, torch.Tensor]


ROWS = 8
"""Rows of one product with the adapters: fewer are padded, more are several products."""
LAYOUTS = 4
"""Sets of adapters laid side by side that are kept, so that a batch's changing mixture seldom copies them anew."""


@dataclass(slots=True)
class Active:
    """The adapters of the pass in flight, shared by all linear layers of a model.

    Its tokens (1, tokens, in) are one of each row, and then a piece of one prompt in blocks of `blocks` tokens.
    """

    rows: tuple[Adapter | None, ...] = ()
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = field(default_factory=dict)
    piece: dict[str, Pair] = field(default_factory=dict[str, Pair])
    blocks: Sequence[int] = ()
    everywhere: dict[str, Pair] = field(default_factory=dict[str, Pair])
    layouts: OrderedDict[tuple[Adapter, ...], dict[str, Pair]] = field(default_factory=OrderedDict)

    def use_everywhere(self, adapter: Adapter | None) -> None:
        """Takes one adapter (None: base) for all rows and tokens of the next passes, whose x is (rows, tokens, in)."""
        self.everywhere = {} if adapter is None else adapter.pairs

    def use(self, rows: Sequence[Adapter | None], piece: Adapter | None = None, blocks: Sequence[int] = ()) -> None:
        """Takes the adapter (or None: base) of each row, and of the piece, of the next forward passes."""
        self.piece, self.blocks = {} if piece is None else piece.pairs, blocks
        if tuple(rows) == self.rows:
            return
        self.rows, self.pairs = tuple(rows), {}
        wanted = {row for row in rows if row is not None}
        if not wanted:
            return
        together = self._layout(wanted)
        lines = [*rows, *[None] * (-len(rows) % ROWS)] if None in rows or len(together) > 1 else None
        masks: dict[tuple[int, ...], torch.Tensor | None] = {}
        for module, (a, b) in self.layouts[together].items():
            ranks = tuple(len(adapter.pairs[module][0]) if module in adapter.pairs else 0 for adapter in together)
            if ranks not in masks:
                masks[ranks] = None if lines is None else mask(lines, together, ranks, a)
            self.pairs[module] = (a, b, masks[ranks])

    def _layout(self, wanted: set[Adapter]) -> tuple[Adapter, ...]:
        """Adapters that lie side by side and hold the wanted ones, not more than twice as many; lays them so if none do."""
        fit = [each for each in self.layouts if wanted <= set(each) and len(each) <= 2 * len(wanted)]
        found = min(fit, key=len, default=tuple(sorted(wanted, key=id)))
        if len(wanted) == 1:
            found = tuple(wanted)
        if found not in self.layouts:
            self.layouts[found] = _join(found)
        self.layouts.move_to_end(found)
        while len(self.layouts) > LAYOUTS:
            self.layouts.popitem(last=False)
        return found

    def add(self, name: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Adds to y (1, tokens, out) what the adapters make of x (1, tokens, in) in the module `name`, in place."""
        if (pair := self.everywhere.get(name)) is not None:
            return (y + functional.linear(functional.linear(x.to(pair[0].dtype), pair[0]), pair[1])).to(y.dtype)
        rows = len(self.rows)
        if (joined := self.pairs.get(name)) is not None:
            a, b, own = joined
            wide = functional.pad(x[0, :rows].to(a.dtype), (0, 0, 0, -rows % ROWS))
            for at in range(0, rows, ROWS):
                low = functional.linear(wide[at : at + ROWS], a)
                added = functional.linear(low if own is None else low * own[at : at + ROWS], b)
                end = min(at + ROWS, rows)
                y[0, at:end] = (y[0, at:end] + added[: end - at]).to(y.dtype)
        if (pair := self.piece.get(name)) is not None and (rest := x.shape[1] - rows):
            at = rows
            for size in self.blocks if sum(self.blocks) == rest else (rest,):  # a head reads the last token alone
                added = functional.linear(functional.linear(x[0, at : at + size].to(pair[0].dtype), pair[0]), pair[1])
                y[0, at : at + size] = (y[0, at : at + size] + added).to(y.dtype)
                at += size
        return y


def _join(adapters: Sequence[Adapter]) -> dict[str, Pair]:
    if len(adapters) == 1:
        return adapters[0].pairs
    modules = {module for adapter in adapters for module in adapter.pairs}
    joined: dict[str, Pair] = {}
    for module in modules:
        pairs = [adapter.pairs[module] for adapter in adapters if module in adapter.pairs]
        joined[module] = (torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs], dim=1))
    return joined


def mask(
    rows: Sequence[Adapter | None], adapters: Sequence[Adapter], ranks: Sequence[int], like: torch.Tensor
) -> torch.Tensor:
    """Returns ones (rows, sum of ranks) where a row's own adapter lies."""
    lines = [
        [float(row is adapter) for adapter, rank in zip(adapters, ranks, strict=True) for _ in range(rank)]
        for row in rows
    ]
    return torch.tensor(lines, dtype=like.dtype, device=like.device)


class LoraLinear(nn.Module):
    """nn.Linear plus the active adapters' product."""

    def __init__(self, name: str, base: nn.Linear, active: Active, *, packed: bool) -> None:
        super().__init__()
        self.name, self.active = name, active
        self.out_features, self.in_features = base.out_features, base.in_features
        self.product = product(base, packed=packed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Takes (rows, tokens, in), one row where adapters are active, gives (rows, tokens, out)."""
        return self.active.add(self.name, x, self.product(x))


def product(base: nn.Linear, *, packed: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns x -> xW'+b.

    Packed (bf16 on a CPU) lays the weights out once as oneDNN wants them, not at each call: the same numbers 1.6
    times as fast (measured with torch 2.13 on AMX).
    """
    weight = base.weight.detach()
    bias: torch.Tensor | None = None if getattr(base, "bias", None) is None else base.bias.detach()
    if not packed:
        return lambda x: functional.linear(x, weight, bias)
    tiled = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    pointwise = torch.ops.mkldnn._linear_pointwise
    return lambda x: pointwise(x, tiled, bias, "none", [], "")


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Says whether oneDNN's own layout is to be had: on a CPU with AVX2 alone it refuses to pack bf16."""
    onednn = torch.ops.mkldnn
    there = hasattr(onednn, "_reorder_linear_weight") and hasattr(onednn, "_is_mkldnn_bf16_supported")
    return device.type == "cpu" and dtype == torch.bfloat16 and there and bool(onednn._is_mkldnn_bf16_supported())


def install(model: nn.Module, active: Active, *, packed: bool) -> dict[str, tuple[int, int]]:
    """Replaces every linear layer in place; returns name -> (out, in) features."""
    shapes: dict[str, tuple[int, int]] = {}
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for name, module in found:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, LoraLinear(name, module, active, packed=packed))
        shapes[name] = (module.out_features, module.in_features)
    return shapes
