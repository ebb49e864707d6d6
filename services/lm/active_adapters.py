"""The LoRAs of the pass in flight, and what they add to each row of the base's products; it knows no model.

Rows with adapters stand in the order of their adapters, eight in a chunk, and the adapters of a chunk lie side by side: A (sum
of ranks, in) of all layers that read the same input, and B (out, sum of ranks) of each, and a mask (rows, sum of ranks) keeps
each row to its own. A product a chunk and one a layer then serve any mixture, as in S-LoRA (arXiv:2311.03285) without its
kernels; base rows take part in none.

An answer does not depend on its neighbours, to the last bit, as long as all of its chunk have its adapter: these fp32
products, which do depend on how many rows they have, are always made of eight, or of one block of a prompt. Beside other
adapters, whose ranks lie in the same product, its last bits may differ.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from services.lm.adapters import Adapter

ROWS = 8
"""Rows of one product with the adapters: fewer are filled up, more are several products."""
LAYOUTS = 8
"""Sets of adapters laid side by side that are kept, so that a batch's changing mixture seldom copies them anew."""
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Joined:
    """What adapters side by side have for layers that read the same input."""

    a: torch.Tensor
    """(sum of ranks, in)"""
    ups: dict[str, tuple[int, int, torch.Tensor]]
    """layer -> where its ranks begin and end, and B' (ranks, out)"""
    owners: tuple[int, ...]
    """of each rank, the place of its adapter"""


@dataclass(eq=False, slots=True)
class Layout:
    """Adapters side by side."""

    adapters: tuple[Adapter, ...]
    joined: dict[tuple[str, ...], Joined | None] = field(default_factory=dict[tuple[str, ...], Joined | None])

    def of(self, layers: tuple[str, ...]) -> Joined | None:
        """What they have for layers that read the same input, laid out when it is first asked for; None: nothing."""
        if layers not in self.joined:
            self.joined[layers] = _join(self.adapters, layers)
        return self.joined[layers]


@dataclass(eq=False, slots=True)
class Chunk:
    """Up to ROWS rows that one product serves: their adapters' places in the layout, filled up to ROWS."""

    layout: Layout
    own: list[int]
    masks: dict[tuple[int, ...], torch.Tensor] = field(default_factory=dict[tuple[int, ...], torch.Tensor])

    def keep_own(self, low: torch.Tensor, owners: tuple[int, ...]) -> torch.Tensor:
        """`low` (ROWS, sum of ranks) with zeros where another row's adapter lies."""
        if len(self.layout.adapters) == 1:
            return low
        if owners not in self.masks:
            lines = [[float(owner == own) for owner in owners] for own in self.own]
            self.masks[owners] = torch.tensor(lines, dtype=low.dtype, device=low.device)
        return low * self.masks[owners]


@dataclass(slots=True)
class Active:
    """The adapters of the pass in flight, shared by all linear layers of a model.

    Its tokens (1, tokens, in) are one of each row, and then pieces of prompts, each an adapter and its blocks' lengths.
    """

    rows: tuple[Adapter | None, ...] = ()
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    slots: list[int] = field(default_factory=list[int])
    """The rows that have an adapter, chunk by chunk."""
    index: torch.Tensor | None = None
    """The same, filled up to whole chunks; None where they follow one another: then they are sliced."""
    pieces: Sequence[tuple[Adapter | None, Sequence[int]]] = ()
    everywhere: dict[str, Pair] = field(default_factory=dict[str, Pair])
    layouts: OrderedDict[tuple[Adapter, ...], Layout] = field(default_factory=OrderedDict)

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
        self.chunks = [self._chunk([row for _, row in adapted[at : at + ROWS]]) for at in range(0, len(adapted), ROWS)]
        self.slots = [slot for slot, _ in adapted]
        follow = not adapted or self.slots == list(range(self.slots[0], self.slots[0] + len(adapted)))
        filled = [*self.slots, *self.slots[-1:] * (-len(adapted) % ROWS)]
        self.index = None if follow else torch.tensor(filled, device=_device(adapted[0][1]))

    def _chunk(self, rows: Sequence[Adapter]) -> Chunk:
        layout = self._layout(set(rows))
        own = [layout.adapters.index(row) for row in rows]
        return Chunk(layout, [*own, *own[-1:] * (ROWS - len(own))])

    def _layout(self, wanted: set[Adapter]) -> Layout:
        """Adapters that lie side by side and hold the wanted ones, not more than twice as many; lays them so if none do.

        One alone always lies alone: an answer's own products are then as small as they can be.
        """
        most = 1 if len(wanted) == 1 else 2 * len(wanted)
        fit = [each for each in self.layouts if wanted <= set(each) and len(each) <= most]
        found = min(fit, key=len, default=tuple(sorted(wanted, key=lambda each: each.serial)))
        layout = self.layouts.setdefault(found, Layout(found))
        self.layouts.move_to_end(found)
        while len(self.layouts) > LAYOUTS:
            self.layouts.popitem(last=False)
        return layout

    def add(self, layers: tuple[str, ...], x: torch.Tensor, made: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """What `layers` made (each (1, tokens, out)) of the same x (1, tokens, in) with what the adapters add to it."""
        if self.everywhere:
            return [_added(self.everywhere.get(name), x, y) for name, y in zip(layers, made, strict=True)]
        if self.chunks:
            self._add_to_rows(layers, x[0], dict(zip(layers, (y[0] for y in made), strict=True)))
        if any(adapter is not None for adapter, _ in self.pieces):
            for name, y in zip(layers, made, strict=True):
                self._add_to_pieces(name, x[0], y[0])
        return made

    def _add_to_rows(self, layers: tuple[str, ...], x: torch.Tensor, made: dict[str, torch.Tensor]) -> None:
        parts = [chunk.layout.of(layers) for chunk in self.chunks]
        some = next((part for part in parts if part is not None), None)
        if some is None:
            return
        read = self._read(x).to(some.a.dtype)
        added: dict[str, torch.Tensor] = {}
        for at, (chunk, part) in enumerate(zip(self.chunks, parts, strict=True)):
            if part is None:
                continue
            of_chunk = slice(at * ROWS, at * ROWS + ROWS)
            low = chunk.keep_own(functional.linear(read[of_chunk], part.a), part.owners)
            for name, (start, stop, up) in part.ups.items():
                if name not in added:
                    added[name] = read.new_zeros((len(read), up.shape[1]))
                torch.mm(low[:, start:stop], up, out=added[name][of_chunk])
        for name, more in added.items():
            self._give(made[name], more[: len(self.slots)])

    def _read(self, x: torch.Tensor) -> torch.Tensor:
        """The rows of x (tokens, in) that have adapters, in whole chunks."""
        if self.index is not None:
            return x.index_select(0, self.index)
        rows = x[self.slots[0] : self.slots[-1] + 1]
        return functional.pad(rows, (0, 0, 0, -len(rows) % ROWS)) if len(rows) % ROWS else rows

    def _give(self, y: torch.Tensor, more: torch.Tensor) -> None:
        """Adds to the rows of y (tokens, out) that have adapters in place; the sum is rounded once."""
        if self.index is None:
            rows = y[self.slots[0] : self.slots[-1] + 1]
            rows.copy_(rows + more)
        else:
            index = self.index[: len(self.slots)]
            y.index_copy_(0, index, (y.index_select(0, index) + more).to(y.dtype))

    def _add_to_pieces(self, name: str, x: torch.Tensor, y: torch.Tensor) -> None:
        at = len(self.rows)
        whole = len(x) - at == sum(sum(blocks) for _, blocks in self.pieces)  # a head reads each one's last token alone
        for adapter, blocks in self.pieces:
            pair = None if adapter is None else adapter.pairs.get(name)
            for size in blocks if whole else (1,):
                if pair is not None:
                    y[at : at + size] = _added(pair, x[at : at + size], y[at : at + size])
                at += size


def _added(pair: Pair | None, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if pair is None:
        return y
    a, b = pair
    return (y + functional.linear(functional.linear(x.to(a.dtype), a), b)).to(y.dtype)


def _device(adapter: Adapter) -> torch.device | None:
    return next((a.device for a, _ in adapter.pairs.values()), None)


def _join(adapters: Sequence[Adapter], layers: Sequence[str]) -> Joined | None:
    downs: list[torch.Tensor] = []
    ups: dict[str, tuple[int, int, torch.Tensor]] = {}
    owners: list[int] = []
    for layer in layers:
        pairs = [(place, adapter.pairs[layer]) for place, adapter in enumerate(adapters) if layer in adapter.pairs]
        if pairs:
            start = len(owners)
            owners += [place for place, (a, _) in pairs for _ in range(len(a))]
            downs += [a for _, (a, _) in pairs]
            ups[layer] = (start, len(owners), torch.cat([b for _, (_, b) in pairs], dim=1).T)
    return Joined(torch.cat(downs), ups, tuple(owners)) if downs else None
