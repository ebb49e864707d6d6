"""What a score means for a candidate: production, waiting for a person, rejected, or to be measured again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from contracts.project import ProjectSpec
from contracts.types import Metric
from services.registry.domain.gate import failing, needs_champion


@dataclass(frozen=True, slots=True)
class Score:
    """What a version was measured to be: its figures and those of the champion's version, on the same rows."""

    champion: int
    metrics: Mapping[str, Metric]
    champion_metrics: Mapping[str, Metric]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`failed` names every rule that does not hold; it is empty unless the decision is 'reject'."""

    decision: Literal["promote", "wait", "reject", "measure"]
    detail: str
    failed: tuple[str, ...] = ()


def decide(spec: ProjectSpec, score: Score, champion: int) -> Verdict:
    """The gate's verdict on a candidate; `champion` is the version that serves now, 0 the base.

    A rule on the champion is judged by figures against the champion of now alone: where another one was measured the
    decision is 'measure'.
    """
    require = spec.gate.require
    if not require:
        return Verdict("wait", "waiting for approval: the gate has no rules, so it promotes by hand alone")
    against_champion = spec.evaluate.compare == "champion" and needs_champion(require)
    if against_champion and score.champion != champion:
        return Verdict("measure", f"measured against version {score.champion}, but version {champion} serves now")
    failed = failing(require, score.metrics, score.champion_metrics)
    if failed:
        return Verdict("reject", "gate: " + "; ".join(failed), failed)
    if spec.gate.approval == "one person":
        return Verdict("wait", "waiting for approval: the gate is passed, one person has to promote it")
    return Verdict("promote", "gate: " + "; ".join(require))
