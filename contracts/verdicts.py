"""What a project measures of a candidate and asks of it: a project file's sections `evaluate` and `gate`."""

import re
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, model_validator

from contracts.evaluation import RIGHT
from contracts.gate import Rule, margins_apart, parse, rules, share_of_one
from contracts.judge import Judge
from contracts.sections import APPLYING, Section


def _in_percent(rule: str, info: ValidationInfo) -> str:
    metric, op, threshold = re.split(r" *(>=|<=|>|<) *", rule)
    if info.context == APPLYING and threshold != "champion" and share_of_one(metric, float(threshold)):
        right = f"{metric} {op} {100 * float(threshold):g}"
        raise ValueError(f"{metric} is in percent, 0 to 100, as chrf, bleu and rouge_l are; give '{right}'")
    return rule


Gate = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z_0-9]+ *(>|>=|<|<=) *(champion|-?\d+(\.\d+)?)$"),
    AfterValidator(_in_percent),
]
MetricName = Literal["loss", "exact_match", "chrf", "bleu", "rouge_l"]


def _on_one_answer(rule: str, info: ValidationInfo) -> str:
    metric = parse(rule).metric
    if info.context == APPLYING and (metric not in get_args(MetricName) or metric == "loss"):
        known = ", ".join(name for name in get_args(MetricName) if name != "loss")
        raise ValueError(f"{metric!r} is no metric of one answer; give one of {known}")
    return rule


Right = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z_0-9]+ *>= *\d+(\.\d+)?$"),
    AfterValidator(_in_percent),
    AfterValidator(_on_one_answer),
]


def _by_exact_match(right: str) -> bool:
    return right == RIGHT


def _is_none(value: Judge | None) -> bool:
    return value is None


class Evaluate(Section):
    """The evaluation suite."""

    suite: tuple[MetricName, ...] = ("loss", "exact_match", "chrf", "rouge_l")
    held_out: bool = True
    compare: Literal["champion", "base"] = "champion"
    right: Right = Field(
        default=RIGHT,
        exclude_if=_by_exact_match,
        description="When an answer to a regression case is right: METRIC >= NUMBER of the answer against the correction",
    )
    judge: Judge | None = Field(
        default=None,
        exclude_if=_is_none,
        description="Somebody else's model that says whose answer is better: the metric `judge`, the candidate's wins in percent",
    )

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics that rules of a gate may name."""
        return (*self.suite, "judge") if self.judge else self.suite


ALPHA = 0.05


def _usual(alpha: float) -> bool:
    return alpha == ALPHA


def _not_asked(value: int | None) -> bool:
    return value is None


def _none(margins: dict[str, float]) -> bool:
    return not margins


class GateRules(Section):
    """What a candidate must reach to be promoted; an empty list promotes by hand alone.

    A file may write a margin into a rule, 'chrf > champion - 1'. It is kept as 'chrf > champion' and the margin, since consumers
    of before margins know rules without one alone.
    """

    require: tuple[Gate, ...] = ("chrf > champion",)
    margins: dict[MetricName, float] = Field(
        default_factory=dict[Any, float],
        exclude_if=_none,
        description="What rules add to the champion's figure, by metric and in its unit: {chrf: -1} lets 1 less pass",
    )
    alpha: float = Field(
        default=ALPHA,
        gt=0,
        le=0.5,
        exclude_if=_usual,
        description="How often a candidate that is no better than the champion may pass by chance, over all comparisons on "
        "the same held-out rows; one-sided",
    )
    approval: Literal["none", "one person"] = "none"
    regressions: int | None = Field(
        default=None,
        ge=0,
        exclude_if=_not_asked,
        description="So many regression cases, which the champion has right and the candidate not, may pass; null: any number",
    )

    @model_validator(mode="before")
    @classmethod
    def _margins_apart(cls, raw: Any) -> Any:
        given = cast(dict[str, Any], raw) if isinstance(raw, dict) else {}
        require = given.get("require")
        if not isinstance(require, list | tuple) or not all(isinstance(r, str) for r in cast(list[Any], require)):
            return raw
        plain, margins = margins_apart(cast(list[str], require))
        if not margins:
            return raw
        if "judge" in margins:  # a schema's enumeration of metrics does not grow
            raise ValueError("judge is a win rate, 50 for the champion itself; give 'judge > 55' for a margin of 5")
        known = given.get("margins") or {}
        if not isinstance(known, dict) or any(known.get(m, by) != by for m, by in margins.items()):
            raise ValueError("gate.margins says otherwise than the margins in gate.require; give them once")
        return {**given, "require": plain, "margins": {**known, **margins}}

    @model_validator(mode="after")
    def _margins_are_used(self) -> "GateRules":
        unused = self.margins.keys() - {rule.metric for rule in self.rules if rule.threshold is None}
        if unused:
            raise ValueError(f"gate.margins names {sorted(unused)[0]!r}, which no rule compares with the champion")
        return self

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, parsed."""
        return rules(self.require, {str(metric): margin for metric, margin in self.margins.items()})
