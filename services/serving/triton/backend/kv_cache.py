"""Keys and values of the running rows, one slot a row, and of prompts that are being read; it knows no request.

Rows stand at slots 0..n-1, each from position 0 on, so a row joins or leaves without moving the others' tokens and
no row is padded on the left. There are as many slots, and as long ones, as the rows need, and they are given back.
A pass holds one token of each row and then pieces of prompts, side by side (1, tokens). Transformers calls
`update` and, through its AttentionInterface, `attend`.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface

ATTENTION = "noria_slots"
FIRST_CAPACITY = 256  # tokens a slot; doubled when a row outgrows it
BLOCK = 64  # attention reads whole blocks, masked, so that a row's sums do not depend on its neighbours' lengths
IN_VAIN = 4  # blocks that one call of attention may read for nothing: about what a call more takes

Layers = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(slots=True)
class Prompt:
    """Keys and values (heads, tokens, features) a layer of a prompt of `length` tokens, of which `read` are there."""

    length: int
    read: int = 0
    layers: Layers = field(default_factory=Layers)


Run = tuple[int, int, int, torch.Tensor]
"""Rows (first, behind the last) that attend in one call, how many keys they see, and the mask (rows, 1, 1, keys)."""
Part = tuple[Prompt, Sequence[tuple[int, int]]]
"""A prompt and its blocks (start, stop) that a pass reads, one behind the other."""


@dataclass(slots=True)
class Pass:
    """What the tokens of one forward pass are: those of slots first.., at `positions`, then blocks of prompts."""

    first: int
    positions: torch.Tensor  # (rows)
    runs: list[Run]
    parts: Sequence[Part]
    masks: list[torch.Tensor] = field(default_factory=list[torch.Tensor])  # one a block, made at the first layer


class KVCache:
    """The cache that a forward pass writes to: first `begin` says what its tokens are."""

    def __init__(self, rows: int, limit: int) -> None:
        self.rows, self.limit = rows, limit
        self.count, self.capacity = 0, 0
        self.layers: Layers = []
        self.now: Pass | None = None
        self.layer = 0

    def begin(self, first: int, lengths: Sequence[int], device: torch.device, parts: Sequence[Part]) -> None:
        """The next pass of this thread holds a token of each slot from `first` on, then these blocks of prompts."""
        positions = torch.tensor(lengths, device=device, dtype=torch.long)
        runs: list[Run] = []
        for start, stop, blocks in like_rows([length // BLOCK + 1 for length in lengths]):
            seen = min(self.capacity, blocks * BLOCK)
            mask = torch.arange(seen, device=device) <= positions[start:stop, None]
            runs.append((start, stop, seen, mask[:, None, None]))
        self.now = Pass(first, positions, runs, parts)
        _current.cache = self

    def _sized(self, rows: int, longest: int) -> tuple[int, int]:
        if not rows:
            return 0, 0
        tokens = max(FIRST_CAPACITY, 1 << (longest - 1).bit_length())
        return min(self.rows, 1 << (rows - 1).bit_length()), min(self.limit, tokens)

    def held(self, rows: int, longest: int) -> int:
        """Tokens that the slots hold room for with so many rows of so many tokens."""
        count, capacity = self._sized(rows, longest)
        return count * capacity

    def reserve(self, rows: int, longest: int) -> None:
        """Makes room for so many rows of so many tokens, or gives back what they do not need; all or nothing."""
        count, capacity = self._sized(rows, longest)
        if rows and self.count <= 4 * rows:
            count = max(count, self.count)
        if rows and self.capacity <= max(FIRST_CAPACITY, 4 * longest):
            capacity = max(capacity, self.capacity)
        if (count, capacity) == (self.count, self.capacity):
            return
        used = rows, longest
        self.layers = [(_fitted(k, used, count, capacity), _fitted(v, used, count, capacity)) for k, v in self.layers]
        self.count, self.capacity = count, capacity

    def adopt(self, slot: int, prompt: Prompt, longest: int) -> None:
        """Puts a prompt that was read into the first free slot, beside rows of at most `longest` tokens."""
        if not self.layers:
            self.layers = [(k.new_zeros(0, len(k), 0, k.shape[2]), v.new_zeros(0, len(v), 0, v.shape[2]))
                           for k, v in prompt.layers]  # fmt: skip
        self.reserve(slot + 1, max(longest, prompt.length + 1))
        for (keys, values), (k, v) in zip(self.layers, prompt.layers, strict=True):
            keys[slot, :, : prompt.length] = k
            values[slot, :, : prompt.length] = v

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keeps keys and values (1, heads, tokens, features), which `attend` then finds."""
        now, self.layer = self.now, layer_idx
        assert now is not None  # noqa: S101  begin() comes first
        if rows := len(now.positions):
            index = torch.arange(now.first, now.first + rows, device=keys.device)
            kept_keys, kept_values = self.layers[layer_idx]
            kept_keys[index, :, now.positions] = keys[0, :, :rows].transpose(0, 1)
            kept_values[index, :, now.positions] = values[0, :, :rows].transpose(0, 1)
        at = rows
        for prompt, blocks in now.parts:
            if layer_idx == len(prompt.layers):
                size = (keys.shape[1], prompt.length, keys.shape[3])
                prompt.layers.append((keys.new_zeros(size), values.new_zeros((*size[:2], values.shape[3]))))
            start, stop = blocks[0][0], blocks[-1][1]
            for kept, new in zip(prompt.layers[layer_idx], (keys, values), strict=True):
                kept[:, start:stop] = new[0, :, at : at + stop - start]
            at += stop - start
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Part of transformers' Cache; positions are always given, so nothing depends on it."""
        return 0

    def move(self, source: int, target: int, length: int) -> None:
        """Puts the row of slot `source` into `target`."""
        for keys, values in self.layers:
            keys[target, :, :length] = keys[source, :, :length]
            values[target, :, :length] = values[source, :, :length]


def _fitted(old: torch.Tensor, used: tuple[int, int], count: int, capacity: int) -> torch.Tensor:
    """Room for `count` slots of `capacity` tokens with what is in use of the old: at most so many rows and tokens."""
    rows, tokens = (min(sizes) for sizes in zip(used, (len(old), old.shape[2]), (count, capacity), strict=True))
    new = _zeros((count, old.shape[1], capacity, old.shape[3]), old)
    new[:rows, :, :tokens] = old[:rows, :, :tokens]
    return new


def _zeros(size: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """Zeros of the dtype and device of `like`. On a CPU numpy's, whose pages become memory when they are written first.

    (Torch writes all of them: of 0.5 s for 32 rows more than their prompts took.)
    """
    if like.device.type != "cpu" or not math.prod(size):
        return like.new_zeros(size)
    return torch.from_numpy(np.zeros(math.prod(size) * like.element_size(), np.uint8)).view(like.dtype).view(*size)


_current = threading.local()
"""The cache of this thread's pass: transformers hands `attend` keys and values alone."""


def attend(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
           attention_mask: torch.Tensor | None, scaling: float | None = None, **_: Any) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Attention of each row's new token (1, heads, tokens, features) over its slot, and of each block over its prompt."""
    cache: KVCache = _current.cache
    now = cache.now
    assert now is not None  # noqa: S101
    rows, heads = len(now.positions), query.shape[1]
    parts: list[torch.Tensor] = []
    for start, stop, seen, mask in now.runs:  # query heads that share a key head stand as tokens: no copy of the keys
        keys, values = (x[now.first + start : now.first + stop, :, :seen] for x in cache.layers[cache.layer])
        packed = query[0, :, start:stop].transpose(0, 1).reshape(stop - start, key.shape[1], -1, query.shape[3])
        out = functional.scaled_dot_product_attention(packed, keys, values, attn_mask=mask, scale=scaling)
        parts.append(out.reshape(stop - start, heads, -1))
    at, shared = rows, heads // key.shape[1]
    blocks = [(prompt.layers[cache.layer], start, stop) for prompt, found in now.parts for start, stop in found]
    now.masks = now.masks or [_causal(start, stop, shared, query) for _, start, stop in blocks]
    for ((keys, values), start, stop), mask in zip(blocks, now.masks, strict=True):
        end = at + stop - start
        packed = query[:, :, at:end].reshape(1, len(keys), -1, query.shape[3])
        out = functional.scaled_dot_product_attention(
            packed, keys[None, :, :stop], values[None, :, :stop], attn_mask=mask, scale=scaling
        )
        parts.append(out.reshape(heads, stop - start, -1).transpose(0, 1))
        at = end
    return torch.cat(parts)[None], None


def like_rows(blocks: Sequence[int]) -> list[tuple[int, int, int]]:
    """Cuts rows of so many blocks into runs (first, behind the last, most blocks) that read few blocks in vain."""
    found: list[tuple[int, int, int]] = []
    start = most = own = 0
    for row, size in enumerate(blocks):
        if row > start and max(most, size) * (row + 1 - start) - own - size > IN_VAIN:
            found.append((start, row, most))
            start, most, own = row, 0, 0
        most, own = max(most, size), own + size
    return [*found, (start, len(blocks), most)] if blocks else []


def _causal(start: int, stop: int, shared: int, like: torch.Tensor) -> torch.Tensor:
    """What is added to the scores of a block's tokens (shared * tokens, keys): nothing, or -inf for later keys."""
    keys = torch.arange(stop, device=like.device)
    later = keys > torch.arange(start, stop, device=like.device)[:, None]
    mask = torch.zeros(later.shape, dtype=like.dtype, device=like.device).masked_fill(later, -torch.inf)
    return mask.repeat(shared, 1)


AttentionInterface.register(ATTENTION, attend)
