"""What a score means for a candidate: production, waiting for a person, or rejected. Knows no history and no event."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from contracts.project import ProjectSpec
from contracts.types import Metric
from services.registry.domain.gate import failing, needs_champion

GatewayMetrics = Mapping[str, Metric]


@dataclass(frozen=True, slots=True)
class Score:
    """What a version was measured to be: its figures and those of the champion, on one dataset."""

    dataset: str
    champion: int
    metrics: GatewayMetrics
    champion_metrics: GatewayMetrics


@dataclass(frozen=True, slots=True)
class Standing:
    """The version in production now (0 is the base), the dataset it was measured on and its own figures there."""

    version: int = 0
    dataset: str | None = None
    metrics: GatewayMetrics | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`failed` names every rule that does not hold; it is empty unless the decision is 'reject'."""

    decision: Literal["promote", "wait", "reject"]
    detail: str
    failed: tuple[str, ...] = ()


def decide(spec: ProjectSpec, score: Score, production: Standing) -> Verdict:
    """The gate's verdict on a candidate.

    When another version was promoted while the candidate was being measured, its figures on the same dataset stand in
    for those of the champion that was measured; where it has none, a rule on the champion cannot be judged and the
    candidate is rejected with that reason: a person may still promote it, or the project be trained again.
    """
    require = spec.gate.require
    if not require:
        return Verdict("wait", "waiting for approval: the gate has no rules, so it promotes by hand alone")
    champion = _champion(spec, score, production)
    if champion is None and needs_champion(require):
        return Verdict("reject", "champion changed", (_changed(score, production),))
    failed = failing(require, score.metrics, champion)
    if failed:
        return Verdict("reject", "gate: " + "; ".join(failed), failed)
    if spec.gate.approval == "one person":
        return Verdict("wait", "waiting for approval: the gate is passed, one person has to promote it")
    return Verdict("promote", "gate: " + "; ".join(require))


def _champion(spec: ProjectSpec, score: Score, production: Standing) -> GatewayMetrics | None:
    if spec.evaluate.compare == "base" or score.champion == production.version:
        return score.champion_metrics
    return production.metrics if production.dataset == score.dataset else None


def _changed(score: Score, production: Standing) -> str:
    return (
        f"champion changed: measured against version {score.champion}, but version {production.version} is in production"
        " and was not measured on this dataset; promote by hand or train again"
    )
