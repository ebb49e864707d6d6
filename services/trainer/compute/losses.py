"""The losses of preference tuning as functions of log-probabilities, float32 and in nats. They know no model."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from contracts.training import PreferenceTuning


def dpo(margin: Tensor, settings: PreferenceTuning) -> Tensor:
    """DPO's loss of each pair, (n,) -> (n,). `margin` is log-ratio of the chosen answer less that of the rejected one.

    A log-ratio is the policy's log-probability less the reference's (Rafailov et al. 2023, equation 7). With `label_smoothing`
    e the loss is (1 - e) L(margin) + e L(-margin) (Mitchell 2023, https://ericmitchell.ai/cdpo.pdf, equation 3); `robust` is
    its unbiased form ((1 - e) L(margin) - e L(-margin)) / (1 - 2 e) (Chowdhury et al. 2024, arXiv:2403.00409, equation 12).
    """
    share = settings.label_smoothing
    right, wrong = -logsigmoid(settings.beta * margin), -logsigmoid(-settings.beta * margin)
    if settings.loss == "robust":
        return ((1 - share) * right - share * wrong) / (1 - 2 * share)
    return (1 - share) * right + share * wrong


def desensitised(log_probs: Tensor, other: int, alpha: float | None) -> Tensor:
    """Log-probability of an answer, (t,) -> (), the tokens beyond the `other` answer's number of them weighted by `alpha`.

    LD-DPO (Liu et al. 2024, arXiv:2409.06411, equation 8): length alone says less. Without `alpha` the plain sum.
    """
    if alpha is None or len(log_probs) <= other:
        return log_probs.sum()
    return log_probs[:other].sum() + alpha * log_probs[other:].sum()


def kto(ratio: Tensor, desirable: Tensor, kl: float, beta: float, weights: tuple[float, float]) -> Tensor:
    """KTO's loss of each answer, (n,) -> (n,): its weight by 1 - v (Ethayarajh et al. 2024, equation 7).

    `ratio` are log-ratios, `desirable` booleans, `kl` the estimate of the KL term, at least 0, through which no gradient goes;
    `weights` are those of desirable and of undesirable answers.
    """
    wanted = weights[0] * (1 - torch.sigmoid(beta * (ratio - kl)))
    unwanted = weights[1] * (1 - torch.sigmoid(beta * (kl - ratio)))
    return torch.where(desirable, wanted, unwanted)


def log_odds_ratio(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Log of odds(chosen) by odds(rejected), (n,), of mean log-probabilities a token (Hong et al. 2024, equations 3 to 7)."""
    return (chosen - rejected) - (_log1mexp(chosen) - _log1mexp(rejected))


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0 without cancellation (Maechler 2012, "Accurately Computing log(1 - exp(-|a|))").

    Each branch gets what it is exact for, so that the other's gradient, which may be infinite, never comes in. A probability of
    one in float32 counts as the one just below.
    """
    x = x.clamp(max=-torch.finfo(x.dtype).eps)
    near = x > -0.6931472
    return torch.where(
        near,
        torch.log(-torch.expm1(x.where(near, x.new_tensor(-0.1)))),
        torch.log1p(-torch.exp(x.where(~near, x.new_tensor(-1.0)))),
    )
