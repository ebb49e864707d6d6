"""What an evaluation is given and gives back, as plain values that travel as JSON. Knows no process and no tensor."""

import hashlib
from typing import Any, Literal, cast

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from contracts.evaluation import RIGHT, Regressions, Slices
from contracts.judge import Judge, JudgeReport
from contracts.project import MetricName, Prompt
from contracts.types import ArtifactRef, BaseRef, Files, HeldOutRows, Metrics, PairedTest


class Part(BaseModel):
    """Base of the values below: frozen and closed, since both ends are this service's."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Subject(Part):
    """A model as it is served: a base untouched, a LoRA adapter on it, or a whole model of its own, under its prompt."""

    kind: Literal["base", "lora", "full"]
    base: BaseRef
    files: Files
    prompt: Prompt = Prompt()

    @property
    def model(self) -> str:
        """SHA-256 (hex) that tells models apart: the digest of the base and of all files but the manifest."""
        lines = [f"{path} {ref.sha256}" for path, ref in sorted(self.files.items()) if path != "manifest.json"]
        return hashlib.sha256("\n".join([self.kind, self.base.digest, *lines]).encode()).hexdigest()


class PredictionsRef(Part):
    """Where the predictions of one model under one setting lie."""

    model: str
    settings: str
    file: ArtifactRef


_KEPT = AliasChoices("predictions", "sheets")  # `sheets` in what was written before they had this name


class Task(Part):
    """One candidate on one split. `champion` is the base where there is no champion, or none shall be compared with.

    `require` are the rules of the gate, margins included; `right` says when an answer to a regression case is. What the judge
    costs is `project`'s.
    """

    evaluation_id: str
    suite: tuple[MetricName, ...]
    max_tokens: int
    split: ArtifactRef | None
    candidate: Subject
    champion: Subject
    base: Subject
    predictions: tuple[PredictionsRef, ...] = Field(default=(), validation_alias=_KEPT)
    require: tuple[str, ...] = ()
    right: str = RIGHT
    judge: Judge | None = None
    project: str = ""

    @model_validator(mode="before")
    @classmethod
    def _one_prompt_for_all(cls, raw: Any) -> Any:
        """A job that was queued before subjects had prompts of their own has one for all of them."""
        if not isinstance(raw, dict) or "prompt" not in raw:
            return raw
        given = dict(cast(dict[str, Any], raw))
        prompt = given.pop("prompt")
        return given | {role: {"prompt": prompt} | given[role] for role in ("candidate", "champion", "base")}


class Outcome(Part):
    """What was measured. `computed` says with which device, dtype and threads; `predictions` are the new ones alone."""

    metrics: Metrics
    champion_metrics: Metrics
    base_metrics: Metrics
    differences: Metrics
    results: ArtifactRef
    examples: int
    predictions: tuple[PredictionsRef, ...] = Field(default=(), validation_alias=_KEPT)
    skipped: dict[str, int] = {}
    computed: dict[str, str | int] = {}
    seconds: dict[str, float] = {}
    tests: dict[str, PairedTest] = {}
    held_out: HeldOutRows | None = None
    slices: Slices | None = None
    regressions: Regressions | None = None
    judge: JudgeReport | None = None


def untouched(base: BaseRef, prompt: Prompt) -> Subject:
    """The base as a subject."""
    return Subject(kind="base", base=base, files={}, prompt=prompt)
