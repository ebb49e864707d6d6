"""What a project wants of every stage, typed: a project file's content.

Closed, so that a misspelt key is refused. Within an event the same classes are open (contracts/envelope.py).
"""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from contracts.learning import Learning
from contracts.preparation import Prep
from contracts.prompt import Prompt as Prompt
from contracts.sections import APPLYING as APPLYING
from contracts.sections import Duration, Section
from contracts.shapes import SHAPES, Column, readings
from contracts.teacher import Teacher
from contracts.training import Adapter as Adapter
from contracts.training import Learn as Learn
from contracts.training import Train as Train
from contracts.types import ProjectName
from contracts.verdicts import Evaluate as Evaluate
from contracts.verdicts import GateRules as GateRules
from contracts.verdicts import MetricName as MetricName

ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


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
            if metric not in self.evaluate.measured:
                where = "evaluate.judge" if metric == "judge" else "evaluate.suite"
                raise ValueError(f"gate.require names {metric!r}, which {where} does not measure")
        return self


def same_weights(a: ProjectSpec, b: ProjectSpec) -> bool:
    """Whether both ask for the same weights: one base, one preparation, one recipe. The prompt does not count.

    Training shows the prompt to the model too. Weights that were trained under another are a candidate under the new one all the
    same: it is measured before it serves.
    """
    return (a.base, a.prep, a.train) == (b.base, b.prep, b.train)
