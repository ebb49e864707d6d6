"""What a project wants of every stage, typed: a project file's content.

Closed, so that a misspelt key is refused. Within an event the same classes are open (contracts/envelope.py).
"""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from contracts.gate import Rule, margins_apart, rules, share_of_one
from contracts.learning import Learning
from contracts.preparation import Prep
from contracts.prompt import Prompt as Prompt
from contracts.sections import APPLYING, Duration, Section
from contracts.shapes import SHAPES, Column, readings
from contracts.teacher import Teacher
from contracts.training import Adapter as Adapter
from contracts.training import Learn as Learn
from contracts.training import Train as Train
from contracts.types import ProjectName


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
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
MetricName = Literal["loss", "exact_match", "chrf", "bleu", "rouge_l"]


def _keeps_all(share: float) -> bool:
    return share == 1


def _asks_nothing(policy: bool | str) -> bool:
    return policy in (False, "keep")


class Ingest(Section):
    """How records are read at the door, and which are let in."""

    columns: dict[Column | Literal["record_id", "subject"], ColumnName] = Field(
        default_factory=dict[Any, str],
        description="What a column means -> what it is called in the records: {prompt: question, completion: answer}",
    )
    sample: float = Field(
        default=1.0,
        gt=0,
        le=1,
        exclude_if=_keeps_all,
        description="Share of the records that are taken, by their record_id",
    )
    pii: Literal["keep", "redact", "drop"] = Field(
        default="keep",
        exclude_if=_asks_nothing,
        description="Secrets and personal data: kept, replaced by placeholders, or a reason to refuse the record",
    )
    require_consent: bool = Field(
        default=False, exclude_if=_asks_nothing, description="Whether only records with the tag consent: yes are taken"
    )

    @model_validator(mode="after")
    def _makes_a_shape(self) -> "Ingest":
        meant = {name for name in self.columns if name not in ("record_id", "subject")}
        found = readings(meant)
        if meant and (not found or len(found) > 1 or not meant <= found[0].columns):
            shapes = "; ".join(" + ".join(sorted(shape.needs)) for shape in SHAPES)
            raise ValueError(f"columns make none of the shapes of a record, or two; name all of one of: {shapes}")
        if len(set(self.columns.values())) < len(self.columns):
            raise ValueError("two columns have one name; name each once")
        return self


class Evaluate(Section):
    """The evaluation suite."""

    suite: tuple[MetricName, ...] = ("loss", "exact_match", "chrf", "rouge_l")
    held_out: bool = True
    compare: Literal["champion", "base"] = "champion"


ALPHA = 0.05


def _usual(alpha: float) -> bool:
    return alpha == ALPHA


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


def _is_none(value: Teacher | None) -> bool:
    return value is None


class Serve(Section):
    """How the model answers where a request does not say."""

    max_tokens: int = Field(default=256, ge=1, le=100_000)
    temperature: float = Field(default=0.0, ge=0, le=2)
    max_wait: Duration = Field(
        default=timedelta(seconds=30),
        gt=timedelta(0),
        description="A request that would wait longer for its turn is refused at once, with the time to come back after",
    )
    teacher: Teacher | None = Field(
        default=None,
        exclude_if=_is_none,
        description="Somebody else's model that answers until a version of the project's own is promoted",
    )


def _says_nothing(section: Ingest | Learning) -> bool:
    """A section that a project does not have is not written, so that its revision is what it was before there was one."""
    return section == type(section)()


class ProjectSpec(Section):
    """A whole project. Its revision is the digest of its canonical JSON."""

    project: ProjectName
    base: str = Field(min_length=1, max_length=500)
    priority: Literal["low", "normal", "high"] = Field(
        default="normal", description="Share of freezes, trainings and evaluations while others wait too: 1, 4 or 16"
    )
    prompt: Prompt = Prompt()
    ingest: Ingest = Field(default=Ingest(), exclude_if=_says_nothing)
    learn: Learning = Field(default=Learning(), exclude_if=_says_nothing)
    prep: Prep = Prep()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    gate: GateRules = GateRules()
    serve: Serve = Serve()

    @model_validator(mode="after")
    def _gate_is_measured(self) -> "ProjectSpec":
        for rule in self.gate.require:
            metric = re.split(r"[ <>=]", rule)[0]
            if metric not in self.evaluate.suite:
                raise ValueError(f"gate.require names {metric!r}, which evaluate.suite does not measure")
        return self


def same_weights(a: ProjectSpec, b: ProjectSpec) -> bool:
    """Whether both ask for the same weights: one base, one preparation, one recipe. The prompt does not count.

    Training shows the prompt to the model too. Weights that were trained under another are a candidate under the new one all the
    same: it is measured before it serves.
    """
    return (a.base, a.prep, a.train) == (b.base, b.prep, b.train)
