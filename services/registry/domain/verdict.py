"""What a score means for a candidate: production, waiting for a person, rejected, or to be measured again."""

from dataclasses import dataclass
from typing import Literal

from contracts.project import ProjectSpec
from services.registry.domain.gate import Finding, Score, judge, judge_regressions, needs_champion
from services.registry.domain.spending import Look, words

BY_HAND = "waiting for approval: the gate has no rules, so it promotes by hand alone"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`failed` says of every rule that does not hold why; it is empty unless the decision is 'reject'."""

    decision: Literal["promote", "wait", "reject", "measure"]
    detail: str
    failed: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict as it is kept: on which evaluation, against which champion, at which level, and what each rule came to.

    `alpha` is the project's; `look` is what the comparison took of it, None where no rule compares with the champion; `rows` is
    the digest of the rows, None where the evaluator told none.
    """

    verdict: str
    detail: str
    evaluation_id: str
    champion: int
    alpha: float
    look: Look | None
    rows: str | None
    findings: tuple[Finding, ...]

    def same_comparison(self, champion: int, rows: str | None) -> bool:
        """Whether figures against `champion` on `rows` are those that it looked at: greedy answers tell nothing new."""
        return (self.champion, self.rows) == (champion, rows)


def compares(spec: ProjectSpec) -> bool:
    """Whether the gate compares with the champion, and so looks at held-out rows."""
    return needs_champion(spec.gate.rules)


def decide(spec: ProjectSpec, score: Score, champion: int, look: Look) -> Verdict:
    """The gate's verdict on a candidate; `champion` is the version that serves now, 0 the base.

    A rule on the champion, and regression cases, are judged by figures against the champion of now alone: where another one was
    measured the decision is 'measure'. `look` says at which level; counting regression cases takes no part of it, for that can
    only make a promotion rarer.
    """
    rules, alpha, allowed = spec.gate.rules, spec.gate.alpha, spec.gate.regressions
    if not rules and allowed is None:
        return Verdict("wait", BY_HAND)
    looks_at_champion = compares(spec) or allowed is not None
    if spec.evaluate.compare == "champion" and looks_at_champion and score.champion != champion:
        return Verdict("measure", f"measured against version {score.champion}, but version {champion} serves now")
    findings = judge(rules, score, look.level(alpha))
    if allowed is not None:
        against = f"version {score.champion}" if score.champion else "the base"
        findings += (judge_regressions(allowed, score.regressions, against),)
    failed = tuple(finding.words for finding in findings if finding.outcome != "holds")
    spent = f"; {words(look, alpha)}" if compares(spec) else ""
    told = "gate: " + "; ".join(failed or (finding.words for finding in findings)) + spent
    if failed:
        return Verdict("reject", told, failed, findings)
    if not rules:
        return Verdict("wait", f"{BY_HAND}; {told}", findings=findings)
    if spec.gate.approval == "one person":
        wait = f"waiting for approval: the gate is passed, one person has to promote it; {told}"
        return Verdict("wait", wait, findings=findings)
    return Verdict("promote", told, findings=findings)
