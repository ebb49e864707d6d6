"""A gate's rules, as 'chrf > champion' or 'loss < 1.2', and whether figures hold them. Knows no stage and no version."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from contracts.project import share_of_one
from contracts.types import Metric

_RULE = re.compile(r"^([a-z_0-9]+) *(>=|<=|>|<) *(champion|-?\d+(?:\.\d+)?)$")
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """`metric op threshold`, read from left to right on the candidate's point estimate: 'loss < champion' wants a lower loss.

    `threshold` is None where the rule says 'champion'. An equal figure does not pass > or <; NaN and a figure that is
    missing never pass.
    """

    metric: str
    op: str
    threshold: float | None

    def __str__(self) -> str:
        return f"{self.metric} {self.op} {'champion' if self.threshold is None else f'{self.threshold:g}'}"


def parse(text: str) -> Rule:
    """The rule that `text` means; the pattern is that of contracts.project.Gate.

    Raises:
        ValueError: when it is no rule.
    """
    match = _RULE.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no gate rule; give 'metric > champion' or 'metric >= 0.5' (>, >=, <, <=)")
    return Rule(match[1], match[2], None if match[3] == "champion" else _threshold(match[1], float(match[3])))


def _threshold(metric: str, written: float) -> float:
    """In the metric's unit: a rule from before `exact_match` was in percent means what it meant."""
    return 100 * written if share_of_one(metric, written) else written


def needs_champion(require: Sequence[str]) -> bool:
    """Whether any rule compares with the champion."""
    return any(parse(text).threshold is None for text in require)


def failing(
    require: Sequence[str], metrics: Mapping[str, Metric], champion: Mapping[str, Metric] | None
) -> tuple[str, ...]:
    """Every rule that does not hold, with the figures. `champion` None: its figures are not to be had."""
    found = (_complaint(parse(text), metrics, champion) for text in require)
    return tuple(line for line in found if line is not None)


def _complaint(rule: Rule, metrics: Mapping[str, Metric], champion: Mapping[str, Metric] | None) -> str | None:
    own = metrics.get(rule.metric)
    if own is None:
        return f"{rule}: {rule.metric} was not measured"
    limit = rule.threshold
    if limit is None:
        other = (champion or {}).get(rule.metric)
        if other is None:
            return f"{rule}: {own.value:.4g} has no champion's {rule.metric} to stand against"
        limit = other.value
    return None if _HOLDS[rule.op](own.value, limit) else f"{rule}: {own.value:.4g} is not {rule.op} {limit:.4g}"
