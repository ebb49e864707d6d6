"""Linear layers that add each row's LoRA to the base's product; it knows neither files nor requests.

Layers that read the same input, such as an attention's queries, keys and values, are one product of the base's weights:
they lie one above the other, and a pass reads its input once. oneDNN's packed products are the same for any number of rows.
"""

from typing import cast

import torch
from torch import nn

from services.lm.active_adapters import Active
from services.lm.linear_product import has_bias, product


class Joint:
    """The layers of a model that read the same input, whose outputs are made together when the first of them is asked."""

    def __init__(self, layers: dict[str, nn.Linear], active: Active, *, packed: bool) -> None:
        self.names, self.active = tuple(layers), active
        self.sizes = [layer.out_features for layer in layers.values()]
        self.product = product(list(layers.values()), packed=packed)
        self.read: torch.Tensor | None = None
        self.made: list[torch.Tensor | None] = []

    def take(self, place: int, x: torch.Tensor) -> torch.Tensor:
        """The output (rows, tokens, out) of the layer at `place` for x (rows, tokens, in)."""
        if self.read is not x or self.made[place] is None:
            parts = self.product(x).split(self.sizes, dim=-1)
            self.read, self.made = x, [*self.active.add(self.names, x, parts)]
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
