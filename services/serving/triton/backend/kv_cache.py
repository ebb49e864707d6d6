"""Keys and values of the running rows, one slot a row, and the attention over them; it knows no request.

Rows stand at slots 0..n-1, each from position 0 on, so a row joins or leaves without moving the others' tokens and
no row is padded on the left. Transformers calls `update` and, through its AttentionInterface, `attend`.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

ATTENTION = "noria_slots"
FIRST_CAPACITY = 256  # tokens a slot; doubled when a row outgrows it
BLOCK = 64  # attention reads whole blocks, masked, so that a row's sums do not depend on its neighbours' lengths


class KVCache:
    """The cache that a forward pass writes to: first `prefill` or `decode` says to which slots and positions."""

    def __init__(self, rows: int, limit: int) -> None:
        self.rows, self.limit, self.capacity = rows, limit, min(FIRST_CAPACITY, limit)
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.slot: int | None = None
        self.index = torch.empty(0)
        self.positions = torch.empty(0)
        self.length = 0

    def prefill(self, slot: int, length: int) -> None:
        """The next pass holds one row of `length` tokens that begins in `slot`."""
        self.slot = slot
        self._reserve(length)

    def decode(self, positions: torch.Tensor, longest: int) -> int:
        """The next pass holds one token of each slot 0..n-1, at `positions` (n); returns how many keys it attends to."""
        self.slot, self.positions = None, positions
        self.index = torch.arange(len(positions), device=positions.device)
        self._reserve(longest)
        self.length = min(self.capacity, -(-longest // BLOCK) * BLOCK)
        return self.length

    def _reserve(self, length: int) -> None:
        if length <= self.capacity:
            return
        old, self.capacity = self.capacity, min(self.limit, max(length, 2 * self.capacity))
        self.layers = [(self._grown(keys, old), self._grown(values, old)) for keys, values in self.layers]

    def _grown(self, tensor: torch.Tensor, old: int) -> torch.Tensor:
        larger = tensor.new_zeros((self.rows, tensor.shape[1], self.capacity, tensor.shape[3]))
        larger[:, :, :old] = tensor
        return larger

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keeps keys and values (rows, heads, tokens, features); returns those that the rows attend to."""
        if layer_idx == len(self.layers):
            shape = (self.rows, keys.shape[1], self.capacity)
            self.layers.append((keys.new_zeros((*shape, keys.shape[3])), values.new_zeros((*shape, values.shape[3]))))
        kept_keys, kept_values = self.layers[layer_idx]
        if self.slot is not None:
            kept_keys[self.slot, :, : keys.shape[2]] = keys[0]
            kept_values[self.slot, :, : values.shape[2]] = values[0]
            return keys, values
        kept_keys[self.index, :, self.positions] = keys[:, :, 0]
        kept_values[self.index, :, self.positions] = values[:, :, 0]
        rows = len(self.index)
        return kept_keys[:rows, :, : self.length], kept_values[:rows, :, : self.length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Part of transformers' Cache; positions are always given, so nothing depends on it."""
        return 0

    def move(self, source: int, target: int, length: int) -> None:
        """Puts the row of slot `source` into `target`."""
        for keys, values in self.layers:
            keys[target, :, :length] = keys[source, :, :length]
            values[target, :, :length] = values[source, :, :length]


def attend(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
           attention_mask: torch.Tensor | None, scaling: float | None = None, **_: Any) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Causal attention of a whole prompt, or of one new token a row (rows, heads, 1, features) over its slot."""
    rows, heads, tokens, features = query.shape
    if tokens > 1:
        grouped = heads != key.shape[1]
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped
        )
    else:  # the query heads that share a key head stand as if they were tokens: no copy of the keys
        packed = query.reshape(rows, key.shape[1], -1, features)
        out = functional.scaled_dot_product_attention(packed, key, value, attn_mask=attention_mask, scale=scaling)
        out = out.reshape(rows, heads, 1, -1)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attend)
