"""The forward and backward pass of peft's LoRA layers as one autograd function each: the same sums in half the passes.

peft's own layer casts its input to the adapter's float32, scales and adds out of place, and leaves ten graph nodes; on a
CPU that costs as much as the layer itself. Parameters, names and files stay peft's. Formula: Hu et al. 2021,
arXiv:2106.09685, section 4.1.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn


class _Lora(torch.autograd.Function):
    """y = x Wt + bias + scale (x At) Bt for a frozen W; gradients for x, A and B."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        low_a, low_b = a.to(x.dtype), b.to(x.dtype)
        inner = flat @ low_a.t()
        result = torch.nn.functional.linear(flat, weight, bias)
        result.addmm_(inner, low_b.t(), alpha=scale)
        ctx.save_for_backward(flat, weight, low_a, low_b, inner)
        ctx.scale, ctx.shape = scale, x.shape
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        flat, weight, a, b, inner = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])
        grad_inner = (grad @ b) * ctx.scale
        grad_a = (grad_inner.t() @ flat).float()
        grad_b = (grad.t() @ inner).float().mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_inner, a).view(ctx.shape)
        return grad_x, None, None, grad_a, grad_b, None


def speed_up(net: nn.Module) -> int:
    """Give each plain LoRA linear layer without dropout the quick forward pass; how many were changed."""
    from peft.tuners.lora.layer import Linear

    changed = 0
    for module in net.modules():
        if isinstance(module, Linear) and _plain(module):
            module.forward = _quick(module)
            changed += 1
    return changed


def _plain(layer: Any) -> bool:
    linear = type(layer.base_layer) is nn.Linear and not layer.lora_variant
    return linear and all(isinstance(dropout, nn.Identity) for dropout in layer.lora_dropout.values())


def _quick(layer: Any) -> Any:
    base, a, b, scale = layer.base_layer, layer.lora_A["default"], layer.lora_B["default"], layer.scaling["default"]

    def forward(x: Tensor) -> Tensor:
        result = _Lora.apply(x.to(base.weight.dtype), base.weight, base.bias, a.weight, b.weight, scale)
        return cast(Tensor, result)

    return forward
