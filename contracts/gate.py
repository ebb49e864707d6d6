"""A gate's rules as written in a project file: `metric op threshold`, the threshold a number or the champion with a margin."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WRITTEN = r"^([a-z_0-9]+) *(>=|<=|>|<) *(?:champion(?: *([+-]) *(\d+(?:\.\d+)?))?|(-?\d+(?:\.\d+)?))$"
"""metric, operator, sign and size of a margin, number; no number is a rule on the champion."""
_WRITTEN = re.compile(WRITTEN)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a gate asks of one metric; `threshold` is None where it is the champion's figure plus `margin`, in its unit."""

    metric: str
    op: str
    threshold: float | None
    margin: float = 0.0

    @property
    def upward(self) -> bool:
        """Whether greater figures hold it."""
        return self.op.startswith(">")

    def __str__(self) -> str:
        if self.threshold is not None:
            return f"{self.metric} {self.op} {self.threshold:g}"
        margin = f" {'-' if self.margin < 0 else '+'} {abs(self.margin):g}" if self.margin else ""
        return f"{self.metric} {self.op} champion{margin}"


def parse(text: str) -> Rule:
    """The rule that `text` means.

    Raises:
        ValueError: when it is no rule.
    """
    match = _WRITTEN.match(text)
    if match is None:
        raise ValueError(
            f"{text!r} is no gate rule; give 'metric > champion', 'metric > champion - 1' or 'metric >= 50' (>, >=, <, <=)"
        )
    metric, op, sign, size, number = match.groups()
    if number is None:
        return Rule(metric, op, None, float(f"{sign}{size}") if size else 0.0)
    return Rule(metric, op, _threshold(metric, float(number)))


def rules(require: Sequence[str], margins: Mapping[str, float]) -> tuple[Rule, ...]:
    """The rules of a project's gate; `margins` by metric are added to the champion's figure."""
    found = [parse(text) for text in require]
    return tuple(Rule(r.metric, r.op, None, margins.get(r.metric, 0.0)) if r.threshold is None else r for r in found)


def margins_apart(require: Sequence[str]) -> tuple[list[str], dict[str, float]]:
    """Rules without their margins, and the margins by metric; what is no rule stays as it is.

    Raises:
        ValueError: where two rules on one metric have different margins.
    """
    plain: list[str] = []
    margins: dict[str, float] = {}
    for text in require:
        rule = parse(text) if _WRITTEN.match(text) else None
        if rule is None or rule.threshold is not None:
            plain.append(text)
            continue
        if margins.setdefault(rule.metric, rule.margin) != rule.margin:
            raise ValueError(f"gate.require compares {rule.metric} with the champion by two margins; give it one")
        plain.append(str(Rule(rule.metric, rule.op, None)) if rule.margin else text)
    return plain, {metric: margin for metric, margin in margins.items() if margin}


def share_of_one(metric: str, threshold: float) -> bool:
    """Whether a threshold was written when `exact_match` was a share of 1: it is in percent, as chrf is, since then."""
    return metric == "exact_match" and 0 < threshold <= 1


def _threshold(metric: str, written: float) -> float:
    """In the metric's unit: a rule from before `exact_match` was in percent means what it meant."""
    return 100 * written if share_of_one(metric, written) else written
