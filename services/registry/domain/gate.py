"""Whether a candidate's figures hold a gate's rules, by bounds and not by points. Knows no stage and no version.

A rule on the champion is a one-sided test of the paired difference; of several such rules, Holm's procedure keeps the level of
the family. A rule on a number holds where the 95% interval lies beyond it. `>=` and `<=` differ from `>` and `<` at equality
alone: there a bound may touch the number, and a candidate that does exactly what the champion does holds.

Regression cases that the candidate lost are counted, not tested: each is a question of its own that answers itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from contracts.evaluation import Regressions
from contracts.gate import Rule
from contracts.judge import JudgeReport, why_not
from contracts.types import Metric, PairedTest
from services.lm.scoring.holm import holm
from services.registry.domain.power import deviation, examples_to_settle, least_examples

Outcome = Literal["holds", "inconclusive", "worse"]
"""`worse`: shown to be on the wrong side; `inconclusive`: neither shown."""

NAMED = 5
"""So many regressed records a finding names."""
JUDGE = "judge"
"""The metric whose rules hold only while its judge counts (contracts/judge.py)."""
BOUND_P = 0.025
"""What is known of p from an event of before tests, whose 95% interval lies beyond the margin."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a version was measured to be: its figures and those of the champion's version, on the same rows.

    `differences` are paired, the candidate's minus the champion's; `tests` are by rule, none in an event of before tests.
    `judge` is what the metric of that name comes from.
    """

    champion: int
    metrics: Mapping[str, Metric]
    champion_metrics: Mapping[str, Metric]
    differences: Mapping[str, Metric]
    tests: Mapping[str, PairedTest]
    regressions: Regressions | None = None
    judge: JudgeReport | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one rule.

    `value`, `low` and `high` (95%) are of the paired difference for a rule on the champion, of the candidate's figure for one on
    a number; None where that was not measured. `limit` is what they are held against; `adjusted`, Holm's p, is against `alpha`.
    `settled_by` examples like these would settle an open case nine times in ten.
    """

    rule: str
    outcome: Outcome
    words: str
    on_champion: bool
    limit: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    p: float | None = None
    adjusted: float | None = None
    alpha: float | None = None
    settled_by: int | None = None


def needs_champion(rules: Sequence[Rule]) -> bool:
    """Whether any rule compares with the champion."""
    return any(rule.threshold is None for rule in rules)


def judge(rules: Sequence[Rule], score: Score, alpha: float) -> tuple[Finding, ...]:
    """What becomes of each rule, in their order; `alpha` is the level of all rules on the champion together."""
    barred = why_not(score.judge) if any(rule.metric == JUDGE for rule in rules) else None
    tested = {
        rule: _test(rule, score) for rule in rules if rule.threshold is None and not (barred and rule.metric == JUDGE)
    }
    adjusted = holm({rule: test.p for rule, test in tested.items() if test is not None})
    return tuple(
        _barred(rule, barred)
        if barred and rule.metric == JUDGE
        else _on_number(rule, rule.threshold, score.metrics.get(rule.metric))
        if rule.threshold is not None
        else _on_champion(rule, score.differences.get(rule.metric), tested[rule], adjusted.get(rule, 1.0), alpha)
        for rule in rules
    )


def judge_regressions(allowed: int, found: Regressions | None, against: str) -> Finding:
    """What becomes of `gate.regressions`: whether at most `allowed` cases regressed; `against` names whom they were right by."""
    rule = f"regressions <= {allowed}"
    if found is None:
        words = f"{rule}: inconclusive: regression cases were not looked at; `noria evaluate` measures again"
        return Finding(rule, "inconclusive", words, False, allowed)
    outcome: Outcome = "holds" if found.regressed <= allowed else "worse"
    words = f"{found.regressed} of {found.cases} held-out questions that people corrected are right by {against} and not by it"
    words += f" ({found.kept} kept, {found.fixed} fixed, {found.wrong} right by neither; right is {found.right})"
    if found.records:
        words += f": {', '.join(found.records[:NAMED])}" + (" ..." if found.regressed > NAMED else "")
    return Finding(rule, outcome, f"{rule}: {outcome}: {words}", False, allowed, value=found.regressed, n=found.cases)


def _barred(rule: Rule, why: str) -> Finding:
    """A rule on a judge that does not count: it can neither promote nor show a candidate to be worse."""
    words = f"{rule}: inconclusive: {why}"
    return Finding(str(rule), "inconclusive", words, rule.threshold is None, rule.threshold or rule.margin)


def _test(rule: Rule, score: Score) -> PairedTest | None:
    """The test that the evaluator made; else what the interval of the difference tells, which is no less strict."""
    known, difference = score.tests.get(str(rule)), score.differences.get(rule.metric)
    if known is not None or difference is None:
        return known
    beyond = difference.low > rule.margin if rule.upward else difference.high < rule.margin
    same = difference.low == difference.high == 0
    return PairedTest(
        p=BOUND_P if beyond else 1.0,
        margin=rule.margin,
        sd=deviation(difference),
        n=max(1, difference.n),
        differing=0 if same else difference.n,
        flips=1,
        exact=False,
    )


def _on_champion(
    rule: Rule, difference: Metric | None, test: PairedTest | None, adjusted: float, alpha: float
) -> Finding:
    if difference is None or test is None:
        words = f"{rule}: inconclusive: {rule.metric} of candidate and champion was not measured on the same examples"
        return Finding(str(rule), "inconclusive", words, True, rule.margin)
    equal = test.differing == 0 and rule.margin == 0
    outcome: Outcome = "inconclusive"
    settled: int | None = None
    if adjusted <= alpha or (equal and rule.op.endswith("=")):
        outcome = "holds"
    elif (difference.high < rule.margin) if rule.upward else (difference.low > rule.margin):
        outcome = "worse"
    else:
        settled = examples_to_settle(test.sd, difference.value - rule.margin, alpha)
    seen = f"{difference.value:+.4g} [{difference.low:.4g}, {difference.high:.4g}] against the champion on {test.n} examples"
    holm_says = f" ({adjusted:.2g} by Holm)" if adjusted != test.p else ""
    asked = f"p {test.p:.2g}{holm_says} {'within' if adjusted <= alpha else 'above'} {alpha:.2g}"
    words = f"{seen}, no answer differs" if equal else f"{seen}, {asked}"
    if outcome == "inconclusive" and not equal:
        words += _open(settled, test.n, alpha)
    return Finding(
        rule=str(rule),
        outcome=outcome,
        words=f"{rule}: {outcome}: {words}",
        on_champion=True,
        limit=rule.margin,
        value=difference.value,
        low=difference.low,
        high=difference.high,
        n=test.n,
        p=test.p,
        adjusted=adjusted,
        alpha=alpha,
        settled_by=settled,
    )


def _open(settled: int | None, n: int, alpha: float) -> str:
    least = least_examples(alpha)
    if n < least:
        return f"; {n} examples cannot show it whatever they say, {least} at least can"
    if settled is None:
        return "; no number of examples would settle so small a difference"
    return f"; some {max(settled, n + 1):,} examples like these would settle it"


def _on_number(rule: Rule, limit: float, own: Metric | None) -> Finding:
    if own is None:
        words = f"{rule}: inconclusive: {rule.metric} was not measured"
        return Finding(str(rule), "inconclusive", words, False, limit)
    near, far = (own.low, own.high) if rule.upward else (own.high, own.low)
    sign, touches = (1 if rule.upward else -1), rule.op.endswith("=")
    outcome: Outcome = "inconclusive"
    settled: int | None = None
    seen = f"{own.value:.4g} [{own.low:.4g}, {own.high:.4g}] on {own.n} examples"
    if sign * (near - limit) > 0 or (touches and near == limit):
        outcome = "holds"
    elif sign * (far - limit) < 0 or (far == limit and not touches):
        outcome = "worse"
    else:
        settled = examples_to_settle(deviation(own), own.value - limit, BOUND_P)
        end = "lower" if rule.upward else "upper"
        seen += f", whose {end} end is not {rule.op} {limit:.4g}" + _open(settled, own.n, 1.0)
    return Finding(
        rule=str(rule),
        outcome=outcome,
        words=f"{rule}: {outcome}: {seen}",
        on_champion=False,
        limit=limit,
        value=own.value,
        low=own.low,
        high=own.high,
        n=own.n,
        settled_by=settled,
    )
