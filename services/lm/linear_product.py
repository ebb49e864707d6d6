"""The product of a linear layer, or of several that read the same input, laid out for the processor. Knows no adapter."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional


def product(layers: Sequence[nn.Linear], *, packed: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns x -> xW'+b of layers one above the other.

    Packed (on a CPU) lays the weights out once as oneDNN wants them, not at each call. In bf16 that is 1.6 times as fast (torch
    2.13 on AMX), and a row's numbers do not depend on how many rows there are up to 32; of more, the last bit of some differs. In
    fp32 (AVX2, up to 32 rows) a head of 49,152 tokens is 1.8 times as fast and a row's numbers depend on no number of
    rows, which MKL's do. (oneDNN on AVX-512 has another kernel for one row alone, so that it is never asked for one.)
    """
    weight = _joined([layer.weight.detach() for layer in layers])
    bias = _joined([layer.bias.detach() for layer in layers]) if has_bias(layers[0]) else None
    if not packed:
        return lambda x: functional.linear(x, weight, bias)
    tiled = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    pointwise = torch.ops.mkldnn._linear_pointwise

    def multiplied(x: torch.Tensor) -> torch.Tensor:
        return pointwise(x, tiled, bias, "none", [], "")

    def one_row_as_two(x: torch.Tensor) -> torch.Tensor:
        if x.numel() > x.shape[-1]:
            return multiplied(x)
        return multiplied(x.reshape(1, -1).expand(2, -1))[:1].reshape(*x.shape[:-1], -1)

    apart = weight.dtype == torch.float32 and torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
    return one_row_as_two if apart else multiplied


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Says whether oneDNN's own layout is to be had: on a CPU with AVX2 alone it refuses to pack bf16."""
    onednn = torch.ops.mkldnn
    if device.type != "cpu" or not hasattr(onednn, "_reorder_linear_weight"):
        return False
    if dtype == torch.bfloat16:
        return hasattr(onednn, "_is_mkldnn_bf16_supported") and bool(onednn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def has_bias(layer: nn.Linear) -> bool:
    """Says whether a layer adds a bias."""
    return getattr(layer, "bias", None) is not None
