"""What a stage of preference tuning minimises: log-probabilities of a pack's rows in, loss and figures out. Knows no model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from contracts.training import PreferenceTuning
from services.trainer.compute import losses
from services.trainer.compute.forward import Pack
from services.trainer.domain.units import Unit

Figures = dict[str, tuple[float, float]]
"""Sum and count of each figure, so that packs and steps add up."""
LogProbs = Mapping[int, tuple[Tensor, ...]]
"""By unit: a reference's log-probabilities of the targets of each of its rows, (t,) each."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a pack has to know of its whole step."""

    divisor: float
    """The step's loss is the sum over its packs by this: the number of targets in sft, of units else."""
    pairs: int = 0
    chosen: int = 0
    """Targets of the pairs' chosen answers."""
    kl: float = 0.0


@dataclass(frozen=True, slots=True)
class Objective:
    """A method over units; `reference` is empty for orpo, `against` says which unit is whose mismatch in kto."""

    method: str
    settings: PreferenceTuning
    units: Sequence[Unit]
    reference: LogProbs = field(default_factory=dict[int, tuple[Tensor, ...]])
    against: Mapping[int, int] = field(default_factory=dict[int, int])
    weights: tuple[float, float] = (1.0, 1.0)

    def batch(self, chosen: Sequence[int], kl: float = 0.0) -> Batch:
        """The units `chosen` as a step."""
        pairs = [self.units[i].rows[0].targets for i in chosen if len(self.units[i].rows) == 2]
        return Batch(float(len(chosen)), len(pairs), sum(pairs), kl)

    def mismatches(self, chosen: Iterable[int]) -> list[int]:
        """The units that the KL term is estimated on for the units `chosen`."""
        return [self.against[i] for i in chosen if i in self.against]

    def divergence(self, pack: Pack, found: Sequence[Tensor]) -> list[float]:
        """Log-ratio of each row of a pack of mismatches."""
        return [float(rows[0].sum() - self.reference[i][0].sum()) for i, rows in self._each(pack, found)]

    def loss(self, pack: Pack, found: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Figures]:
        """Sum of the losses of the pack's units, and the figures; rewards are those of each method's paper."""
        each = list(self._each(pack, found))
        total = found[0].new_zeros(())
        figures: Figures = {}
        replays = [-rows[0].mean() for i, rows in each if len(rows) == 1 and self.units[i].desirable is None]
        if replays:
            total = total + torch.stack(replays).sum()
            figures["replay_loss"] = _total(torch.stack(replays))
        pairs = [(i, rows) for i, rows in each if len(rows) == 2]
        if pairs:
            loss, told = (self._odds if self.method == "orpo" else self._pairs)(pairs, batch)
            total, figures = total + loss, figures | told
        verdicts = [(i, rows[0]) for i, rows in each if self.units[i].desirable is not None]
        if verdicts:
            loss, told = self._verdicts(verdicts, batch)
            total, figures = total + loss, figures | told
        return total, figures

    def _each(self, pack: Pack, found: Sequence[Tensor]) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        rows = iter(found)
        return ((i, tuple(next(rows) for _ in self.units[i].rows)) for i in pack.units)

    def _pairs(self, pairs: list[tuple[int, tuple[Tensor, ...]]], batch: Batch) -> tuple[Tensor, Figures]:
        ratios = [self._ratios(i, rows) for i, rows in pairs]
        chosen, rejected = torch.stack([r[0] for r in ratios]), torch.stack([r[1] for r in ratios])
        loss = losses.dpo(chosen - rejected, self.settings).sum()
        if self.settings.sft_weight:
            loss = loss + self.settings.sft_weight * _anchor(pairs, batch)
        return loss, _rewards(self.settings.beta * chosen, self.settings.beta * rejected)

    def _ratios(self, index: int, rows: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        alpha, (chosen, rejected) = self.settings.ld_alpha, rows
        before = self.reference[index]
        return (
            losses.desensitised(chosen, len(rejected), alpha) - losses.desensitised(before[0], len(rejected), alpha),
            losses.desensitised(rejected, len(chosen), alpha) - losses.desensitised(before[1], len(chosen), alpha),
        )

    def _odds(self, pairs: list[tuple[int, tuple[Tensor, ...]]], batch: Batch) -> tuple[Tensor, Figures]:
        """ORPO (Hong et al. 2024, equation 6): the chosen answers' loss and beta by that of the odds ratio."""
        chosen = torch.stack([rows[0].mean() for _, rows in pairs])
        rejected = torch.stack([rows[1].mean() for _, rows in pairs])
        odds = losses.log_odds_ratio(chosen, rejected)
        loss = _anchor(pairs, batch) - self.settings.beta * torch.nn.functional.logsigmoid(odds).sum()
        return loss, _rewards(self.settings.beta * chosen, self.settings.beta * rejected)

    def _verdicts(self, verdicts: list[tuple[int, Tensor]], batch: Batch) -> tuple[Tensor, Figures]:
        ratio = torch.stack([row.sum() - self.reference[i][0].sum() for i, row in verdicts])
        desirable = torch.tensor([bool(self.units[i].desirable) for i, _ in verdicts], device=ratio.device)
        beta = self.settings.beta
        loss = losses.kto(ratio, desirable, batch.kl, beta, self.weights).sum()
        rewards = beta * ratio.detach()
        return loss, {
            "rewards_chosen": _total(rewards[desirable]),
            "rewards_rejected": _total(rewards[~desirable]),
            "accuracy": _total(((rewards > beta * batch.kl) == desirable).float()),
            "kl": (batch.kl * len(verdicts), len(verdicts)),
        }


def _anchor(pairs: list[tuple[int, tuple[Tensor, ...]]], batch: Batch) -> Tensor:
    """The chosen answers' loss as of sft: the mean over the step's tokens, for each of its pairs."""
    return -torch.stack([rows[0].sum() for _, rows in pairs]).sum() * (batch.pairs / batch.chosen)


def _rewards(chosen: Tensor, rejected: Tensor) -> Figures:
    chosen, rejected = chosen.detach(), rejected.detach()
    return {
        "rewards_chosen": _total(chosen),
        "rewards_rejected": _total(rejected),
        "accuracy": _total((chosen > rejected).float()),
    }


def _total(values: Tensor) -> tuple[float, float]:
    return float(values.detach().sum()), float(len(values))


def add(sums: Mapping[str, Sequence[float]], more: Mapping[str, Sequence[float]]) -> Figures:
    """Two counts of figures as one."""
    names = sums.keys() | more.keys()
    none = (0.0, 0.0)
    return {
        n: (sums.get(n, none)[0] + more.get(n, none)[0], sums.get(n, none)[1] + more.get(n, none)[1]) for n in names
    }


def means(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The figures as people read them; `margin` is the chosen answers' mean reward less the rejected ones'."""
    found = {name: total / count for name, (total, count) in sorted(sums.items()) if count}
    if {"rewards_chosen", "rewards_rejected"} <= found.keys():
        found["margin"] = found["rewards_chosen"] - found["rewards_rejected"]
    return found
