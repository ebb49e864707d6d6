"""Cross entropy of a large vocabulary: loss and gradient in one walk over a few rows at a time. Knows no model.

torch's own keeps four float32 copies of the logits; on a CPU their fresh pages cost more than the arithmetic. The gradient of the
sum is softmax(logits) - onehot(target), as in Hsu et al. 2024 (Liger Kernel, arXiv:2410.10989, section 3.2).
"""

from typing import Any, cast

import torch
from torch import Tensor

_ROWS = 16


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, keeps_graph: bool) -> Tensor:
        total = torch.zeros((), device=logits.device)
        gradient = torch.empty_like(logits) if keeps_graph else None
        for start in range(0, len(targets), _ROWS):
            part, wanted = logits[start : start + _ROWS].float(), targets[start : start + _ROWS, None]
            top = part.amax(1, keepdim=True)
            part -= top
            total -= part.gather(1, wanted).sum()
            part.exp_()
            sums = part.sum(1, keepdim=True)
            total += sums.log().sum()
            if gradient is not None:
                part /= sums
                part.scatter_add_(1, wanted, -torch.ones_like(sums))
                gradient[start : start + _ROWS] = part
        ctx.gradient = gradient
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        gradient: Tensor = ctx.gradient
        ctx.gradient = None
        return gradient.mul_(grads[0]), None, None


def cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over n rows of -log softmax(logits)[target] in nats. logits (n, vocabulary), targets (n,); a float32 scalar.

    The graph may be walked backward once.
    """
    needed = torch.is_grad_enabled() and logits.requires_grad
    return cast(Tensor, _CrossEntropy.apply(logits, targets, needed))
