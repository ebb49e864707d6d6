"""Linear layers that add each row's LoRA to the base's product; it knows neither files nor requests.

Rows with adapters stand in the order of their adapters, eight in a chunk, and the adapters of a chunk are laid side by
side: A (sum of ranks, in) and B (out, sum of ranks), and a mask (rows, sum of ranks) keeps each row to its own. Two
products a chunk then serve any mixture, as in S-LoRA (arXiv:2311.03285) without its kernels; base rows take part in none.

An answer does not depend on its neighbours, to the last bit: oneDNN's packed products are the same for any number of
rows, and the adapters' small fp32 products, which are not, are always made with the same number of rows, or with one
block of a prompt.

Layers that read the same input, such as an attention's queries, keys and values, are one product of the base's weights:
they lie one above the other, and a pass reads its input once.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from services.lm.adapters import Adapter
from services.lm.linear_product import has_bias, product

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Up to ROWS rows that one product serves."""

    slots: list[int]
    index: (
        torch.Tensor | None
    )  # exactly ROWS slots, filled up; None where `slots` follow one another: then they are sliced
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]  # module name -> A, B and mask

    def take(self, x: torch.Tensor) -> torch.Tensor:
        """Its rows of x (tokens, in), exactly ROWS."""
        if self.index is not None:
            return x.index_select(0, self.index)
        part = x[self.slots[0] : self.slots[-1] + 1]
        return part if len(part) == ROWS else functional.pad(part, (0, 0, 0, ROWS - len(part)))

    def give(self, y: torch.Tensor, added: torch.Tensor) -> None:
        """Adds to its rows of y (tokens, out) in place."""
        added = added[: len(self.slots)]
        if self.index is None:
            part = y[self.slots[0] : self.slots[-1] + 1]
            if y.dtype == added.dtype:
                part += added
            else:
                part.copy_(part + added)
        elif y.dtype == added.dtype:
            y.index_add_(0, self.index[: len(self.slots)], added)
        else:
            index = self.index[: len(self.slots)]
            y.index_copy_(0, index, (y.index_select(0, index) + added).to(y.dtype))


ROWS = 8
"""Rows of one product with the adapters: fewer are filled up, more are several products."""
LAYOUTS = 8
"""Sets of adapters laid side by side that are kept, so that a batch's changing mixture seldom copies them anew."""


@dataclass(slots=True)
class Active:
    """The adapters of the pass in flight, shared by all linear layers of a model.

    Its tokens (1, tokens, in) are one of each row, and then pieces of prompts, each an adapter and its blocks' lengths.
    """

    rows: tuple[Adapter | None, ...] = ()
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    pieces: Sequence[tuple[Adapter | None, Sequence[int]]] = ()
    everywhere: dict[str, Pair] = field(default_factory=dict[str, Pair])
    layouts: OrderedDict[tuple[Adapter, ...], dict[str, Pair]] = field(default_factory=OrderedDict)

    def use_everywhere(self, adapter: Adapter | None) -> None:
        """Takes one adapter (None: base) for all rows and tokens of the next passes, whose x is (rows, tokens, in)."""
        self.everywhere = {} if adapter is None else adapter.pairs

    def use(self, rows: Sequence[Adapter | None], pieces: Sequence[tuple[Adapter | None, Sequence[int]]] = ()) -> None:
        """Takes the adapter (or None: base) of each row, and of the pieces, of the next forward passes."""
        self.pieces = pieces
        if tuple(rows) == self.rows:
            return
        self.rows = tuple(rows)
        adapted = [(slot, row) for slot, row in enumerate(rows) if row is not None]
        if len(adapted) > ROWS:
            adapted.sort(key=lambda each: each[1].serial)
        self.chunks = [self._chunk(adapted[at : at + ROWS]) for at in range(0, len(adapted), ROWS)]

    def _chunk(self, rows: Sequence[tuple[int, Adapter]]) -> Chunk:
        together: tuple[Adapter, ...] = self._layout({adapter for _, adapter in rows})
        filled = [*rows, *[rows[-1]] * (ROWS - len(rows))]
        masks: dict[tuple[int, ...], torch.Tensor | None] = {}
        pairs: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = {}
        joined = self.layouts[together] if len(together) > 1 else rows[0][1].pairs
        for module, (a, b) in joined.items():
            ranks = tuple(len(adapter.pairs[module][0]) if module in adapter.pairs else 0 for adapter in together)
            if ranks not in masks:
                own = [adapter for _, adapter in filled]
                masks[ranks] = mask(own, together, ranks, a) if len(together) > 1 else None
            pairs[module] = (a, b, masks[ranks])
        device = next((a.device for a, _ in joined.values()), None)
        slots = [slot for slot, _ in rows]
        together_there = slots == list(range(slots[0], slots[0] + len(slots)))
        index = None if together_there else torch.tensor([slot for slot, _ in filled], device=device)
        return Chunk(slots, index, pairs)

    def _layout(self, wanted: set[Adapter]) -> tuple[Adapter, ...]:
        """Adapters that lie side by side and hold the wanted ones, not more than twice as many; lays them so if none do."""
        if len(wanted) == 1:
            return tuple(wanted)
        fit = [each for each in self.layouts if wanted <= set(each) and len(each) <= 2 * len(wanted)]
        found = min(fit, key=len, default=tuple(sorted(wanted, key=lambda each: each.serial)))
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
        for chunk in self.chunks:
            if (joined := chunk.pairs.get(name)) is not None:
                a, b, own = joined
                low = functional.linear(chunk.take(x[0]).to(a.dtype), a)
                chunk.give(y[0], functional.linear(low if own is None else low * own, b))
        if any(adapter is not None and name in adapter.pairs for adapter, _ in self.pieces):
            self._add_to_pieces(name, x[0], y[0])
        return y

    def _add_to_pieces(self, name: str, x: torch.Tensor, y: torch.Tensor) -> None:
        at = len(self.rows)
        whole = len(x) - at == sum(sum(blocks) for _, blocks in self.pieces)  # a head reads each one's last token alone
        for adapter, blocks in self.pieces:
            pair = None if adapter is None else adapter.pairs.get(name)
            for size in blocks if whole else (1,):
                if pair is not None:
                    added = functional.linear(functional.linear(x[at : at + size].to(pair[0].dtype), pair[0]), pair[1])
                    y[at : at + size] = (y[at : at + size] + added).to(y.dtype)
                at += size


def _join(adapters: Sequence[Adapter]) -> dict[str, Pair]:
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


class Joint:
    """The layers of a model that read the same input, whose outputs are made together when the first of them is asked."""

    def __init__(self, layers: dict[str, nn.Linear], active: Active, *, packed: bool) -> None:
        self.names, self.active = list(layers), active
        self.sizes = [layer.out_features for layer in layers.values()]
        self.product = product(list(layers.values()), packed=packed)
        self.read: torch.Tensor | None = None
        self.made: list[torch.Tensor | None] = []

    def take(self, place: int, x: torch.Tensor) -> torch.Tensor:
        """The output (rows, tokens, out) of the layer at `place` for x (rows, tokens, in)."""
        if self.read is not x or self.made[place] is None:
            self.read, parts = x, self.product(x).split(self.sizes, dim=-1)
            self.made = [self.active.add(name, x, part) for name, part in zip(self.names, parts, strict=True)]
        wanted, self.made[place] = self.made[place], None
        if all(part is None for part in self.made):
            self.read = None  # nothing is kept of a pass in which each was asked
        return cast(torch.Tensor, wanted)


class LoraLinear(nn.Module):
    """nn.Linear plus the active adapters' product; made with those that read the same input."""

    def __init__(self, place: int, joint: Joint, like: nn.Linear) -> None:
        super().__init__()
        self.place, self.joint = place, joint
        self.out_features, self.in_features = like.out_features, like.in_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Takes (rows, tokens, in), one row where adapters are active, gives (rows, tokens, out)."""
        return self.joint.take(self.place, x)


SIBLINGS = {"q_proj": ("q_proj", "k_proj", "v_proj"), "gate_proj": ("gate_proj", "up_proj")}
"""Layers of one parent that read the same input, as nearly all models of transformers name them, by the first."""


def install(model: nn.Module, active: Active, *, packed: bool) -> dict[str, tuple[int, int]]:
    """Replaces every linear layer in place; returns name -> (out, in) features."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    shapes = {name: (module.out_features, module.in_features) for name, module in linear.items()}
    while linear:
        together = _together(linear)
        joint = Joint(together, active, packed=packed)
        for place, (name, module) in enumerate(together.items()):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, LoraLinear(place, joint, module))
            del linear[name]  # its weights are in the joint product
    return shapes


def _together(linear: dict[str, nn.Linear]) -> dict[str, nn.Linear]:
    """The first of the layers with its siblings, if it has them all and they can lie one above the other."""
    first = next(iter(linear))
    parent, dot, child = first.rpartition(".")
    found = {path: linear.get(path) for path in (f"{parent}{dot}{name}" for name in SIBLINGS.get(child, ()))}
    layers = {path: layer for path, layer in found.items() if layer is not None and _alike(layer, linear[first])}
    return layers if layers and len(layers) == len(found) else {first: linear[first]}


def _alike(one: nn.Linear, other: nn.Linear) -> bool:
    return (one.in_features, has_bias(one), one.weight.dtype, one.weight.device) == (
        other.in_features,
        has_bias(other),
        other.weight.dtype,
        other.weight.device,
    )
