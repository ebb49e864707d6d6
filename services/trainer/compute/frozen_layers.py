"""Frozen lower layers are run once a unit: what comes out of them is kept and put in their place for all later epochs.

Knows the stack of layers and nothing of what is trained above. Correct because a frozen layer's output for a row never changes.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from services.trainer.compute.forward import Pack, collate, logits
from services.trainer.compute.model import decoder_layers
from services.trainer.domain.packing import Limits, split
from services.trainer.domain.units import Unit

LIMIT_BYTES = 2 * 2**30
"""Above this the lower layers are computed at every step instead."""


class _ReachedLayer(Exception):
    """The forward pass has come to the first trained layer: nothing above is needed. `states` (1, T, hidden) enter it."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


class _Identity(nn.Module):
    """In the place of a lower layer: hands on what it gets."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states


class CachedLowerLayers(nn.Module):
    """In the place of the last lower layer: answers with the kept states of the pack set before."""

    def __init__(self, prefix: Tensor, states: dict[int, Tensor]) -> None:
        super().__init__()
        self.prefix, self.states, self._current = prefix, states, threading.local()

    def set_pack(self, pack: Pack) -> None:
        """Choose the states of `pack`, in its order, (1, T, hidden), for the passes of this thread."""
        parts = [self.prefix, *(self.states[i] for i in pack.units)]
        blank = pack.ids.shape[1] - sum(len(part) for part in parts)
        self._current.states = torch.cat([*parts, self.prefix.new_zeros(blank, parts[-1].shape[1])])[None]

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """What the layer would have answered for the pack, whatever it is given."""
        return self._current.states


def size(units: Sequence[Unit], used: Iterable[int], prefix: int, hidden: int, dtype: torch.dtype) -> int:
    """Bytes that the states of the units `used` take."""
    return (prefix + sum(units[i].size - prefix for i in used)) * hidden * dtype.itemsize


def compute(
    model: Any,
    first: int,
    units: Sequence[Unit],
    used: Sequence[int],
    prefix: int,
    limits: Limits,
    dtype: torch.dtype,
    check: Callable[[], None],
    pool: ThreadPoolExecutor,
    together: int,
) -> CachedLowerLayers:
    """States that enter layer `first` for the units `used`, `together` packs at once; `check` is called before and may raise.

    Packs are made of `used` in one fixed order, so that the states do not depend on where a resumed run begins.
    """

    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _ReachedLayer(args[0] if args else kwargs["hidden_states"])

    def entering(chosen: Sequence[int]) -> Tensor:
        pack = collate(chosen, units, prefix, device, dtype)
        try:
            with torch.no_grad():
                logits(model, pack, dtype)
        except _ReachedLayer as reached:
            return reached.states[0]
        raise RuntimeError(f"the forward pass never came to layer {first}")

    layers = decoder_layers(model)
    device = next(model.parameters()).device.type
    states: dict[int, Tensor] = {}
    head: Tensor | None = None
    hook = layers[first].register_forward_pre_hook(catch, with_kwargs=True)
    try:
        packs = split(sorted(used), units, prefix, limits)
        for at in range(0, len(packs), together):
            check()
            several = packs[at : at + together]
            for chosen, hidden in zip(several, pool.map(entering, several), strict=True):
                head = hidden[:prefix].clone() if head is None else head
                lengths = [units[i].size - prefix for i in chosen]
                parts = hidden[prefix : prefix + sum(lengths)].split(lengths)
                states |= {i: part.clone() for i, part in zip(chosen, parts, strict=True)}
    finally:
        hook.remove()
    if head is None:
        raise ValueError("no unit to compute the lower layers for")
    return CachedLowerLayers(head, states)


def install(model: Any, first: int, lower: CachedLowerLayers) -> None:
    """Put `lower` in the place of the layers below `first` and free their weights."""
    layers = decoder_layers(model)
    for index in range(first - 1):
        layers[index] = _Identity()
    layers[first - 1] = lower
