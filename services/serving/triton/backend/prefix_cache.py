"""Keeps the keys and values of prompts' beginnings, so that a system prompt is read once a base and adapter, not at each request.

A beginning is kept in units of whole blocks (pieces.py), each under its tokens, its adapter and the unit before it. What
was kept is what reading anew would give, to the last bit: a block's numbers depend on the prompt up to it alone. The
longest unused units go first, a prompt's last ones before its first.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from services.lm.adapters import Adapter
from services.serving.triton.backend.kv_cache import Layers, Prompt

UNIT = 64  # tokens: a multiple of every block, so that a unit ends where a block does

Key = tuple[int, int, tuple[int, ...]]  # adapter, unit before, tokens


@dataclass(slots=True)
class PrefixCache:
    """Units of at most `room` tokens together."""

    room: int
    units: OrderedDict[Key, tuple[int, Layers]] = field(default_factory=OrderedDict)
    made: int = (
        0  # numbers units, so that a key names one beginning, even when the unit before was dropped and made anew
    )

    def begin(self, tokens: Sequence[int], adapter: Adapter | None) -> Prompt:
        """Returns the prompt with as much of its beginning as is kept; its last token is always left to read."""
        prompt, keys = Prompt(len(tokens)), self._keys(tokens, adapter)
        if not keys:
            return prompt
        found = [self.units[key][1] for key in keys]
        for kept in zip(*found, strict=True):
            pair: list[torch.Tensor] = []
            for parts in zip(*kept, strict=True):
                whole = parts[0].new_zeros((parts[0].shape[0], len(tokens), parts[0].shape[2]))
                whole[:, : UNIT * len(parts)] = torch.cat(parts, dim=1)
                pair.append(whole)
            prompt.layers.append((pair[0], pair[1]))
        prompt.read = UNIT * len(found)
        return prompt

    def keep(self, tokens: Sequence[int], adapter: Adapter | None, prompt: Prompt) -> None:
        """Keeps the whole units of a prompt that was read."""
        most = min(len(tokens) - 1, self.room) // UNIT
        before = next((self.units[key][0] for key in reversed(self._keys(tokens, adapter))), 0)
        for at in range(len(self._keys(tokens, adapter)) * UNIT, most * UNIT, UNIT):
            self.made += 1
            key = (_serial(adapter), before, tuple(tokens[at : at + UNIT]))
            layers = [(k[:, at : at + UNIT].clone(), v[:, at : at + UNIT].clone()) for k, v in prompt.layers]
            self.units[key] = (self.made, layers)
            before = self.made
        for key in reversed(self._keys(tokens, adapter)):
            self.units.move_to_end(key)
        while len(self.units) * UNIT > self.room:
            self.units.popitem(last=False)

    def _keys(self, tokens: Sequence[int], adapter: Adapter | None) -> list[Key]:
        """The units of this beginning that are kept, the first ones first."""
        found: list[Key] = []
        before = 0
        for at in range(0, (len(tokens) - 1) // UNIT * UNIT, UNIT):
            key = (_serial(adapter), before, tuple(tokens[at : at + UNIT]))
            if key not in self.units:
                break
            before = self.units[key][0]
            found.append(key)
        return found


def _serial(adapter: Adapter | None) -> int:
    return 0 if adapter is None else adapter.serial
