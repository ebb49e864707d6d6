"""Keys and values with room for the tokens to come: transformers' DynamicCache copies all of them anew at every token."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """A DynamicLayer that writes new tokens behind the old ones while its room (tokens) lasts.

    Of what `keys` and `values` hold only the first `length` tokens count, where it is given; behind them is room already.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, room: int, length: int | None = None) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys[..., :length, :], values[..., :length, :]
        self._room = room
        self._held = (keys, values)
        self._shown = self.keys

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


def repeated(cache: DynamicCache | None, rows: int) -> DynamicCache | None:
    """A cache of its own with the one row of `cache` `rows` times; nothing is copied until something is added."""
    if cache is None:
        return None
    layers: list[Any] = cache.layers
    return _cache([(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1)) for layer in layers])


def apart(cache: DynamicCache) -> DynamicCache:
    """A cache of its own with all of `cache`, which stays as it is whatever is added; nothing is copied until then."""
    layers: list[Any] = cache.layers
    return _cache([(layer.keys, layer.values) for layer in layers])


def joined(caches: Sequence[DynamicCache], width: int, room: int) -> DynamicCache:
    """The rows of several caches in one, on the right of `width` tokens, with room for more; takes theirs from them.

    What lies on the left of a shorter one is zero: masked away, it still is multiplied.
    """
    whole = DynamicCache()
    for index in range(len(caches[0].layers)):
        layers: list[Any] = [cache.layers[index] for cache in caches]
        whole.layers.append(
            PreallocatedLayer(
                _side_by_side([layer.keys for layer in layers], width, room),
                _side_by_side([layer.values for layer in layers], width, room),
                room,
                length=width,
            )
        )
        for layer in layers:
            layer.keys = layer.values = None
    return whole


def _side_by_side(parts: Sequence[Any], width: int, room: int) -> torch.Tensor:
    _, heads, _, features = parts[0].shape
    whole = parts[0].new_zeros((sum(len(part) for part in parts), heads, width + room, features))
    at = 0
    for part in parts:
        whole[at : at + len(part), :, width - part.shape[-2] : width] = part
        at += len(part)
    return whole


def _cache(kept: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> DynamicCache:
    cache = DynamicCache()
    for keys, values in kept:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache
