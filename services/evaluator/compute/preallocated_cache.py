"""Keys and values with room for the tokens to come: transformers' DynamicCache copies all of them anew at every token."""

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """A DynamicLayer that writes new tokens behind the old ones while its room (tokens) lasts."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self._room = room
        self._held = (keys, values)
        self._shown = keys

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keeps (rows, heads, tokens, features) of both; returns all that are kept."""
        kept: Any = (self.keys, self.values)
        length, more = kept[0].shape[-2], key_states.shape[-2]
        # Whoever selects rows or crops puts other tensors in place of the shown ones: then the room is made anew.
        if kept[0] is not self._shown or length + more > self._held[0].shape[-2]:
            self._held = (self._grown(kept[0], more), self._grown(kept[1], more))
        keys, values = self._held
        keys[..., length : length + more, :] = key_states
        values[..., length : length + more, :] = value_states
        self.keys, self.values = keys[..., : length + more, :], values[..., : length + more, :]
        self._shown = self.keys
        return self.keys, self.values

    def _grown(self, kept: torch.Tensor, more: int) -> torch.Tensor:
        rows, heads, length, features = kept.shape
        larger = kept.new_empty((rows, heads, length + max(more, self._room), features))
        larger[..., :length, :] = kept
        return larger


def preallocated(cache: Any, tokens: int) -> Any:
    """`cache` whose plain layers have room for `tokens` more; layers of other kinds (sliding windows, ...) stay as they are."""
    if isinstance(cache, DynamicCache):
        cache.layers = [_preallocated(layer, tokens) for layer in cache.layers]
    return cache


def _preallocated(layer: Any, tokens: int) -> Any:
    if type(layer) is not DynamicLayer or layer.keys is None or layer.values is None:
        return layer
    keys: Any = layer.keys
    values: Any = layer.values
    return PreallocatedLayer(keys, values, tokens)
