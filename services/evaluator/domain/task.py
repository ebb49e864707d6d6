"""What an evaluation is given and gives back, as plain values that travel as JSON. Knows no process and no tensor."""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict

from contracts.project import MetricName, Prompt
from contracts.types import ArtifactRef, BaseRef, Files, Metric


class Part(BaseModel):
    """Base of the values below: frozen and closed, since both ends are this service's."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Subject(Part):
    """A model to be measured: a base untouched, a LoRA adapter on it, or a whole model of its own."""

    kind: Literal["base", "lora", "full"]
    base: BaseRef
    files: Files

    @property
    def key(self) -> str:
        """SHA-256 (hex) that tells models apart: the digest of the base and of all files but the manifest."""
        lines = [f"{path} {ref.sha256}" for path, ref in sorted(self.files.items()) if path != "manifest.json"]
        return hashlib.sha256("\n".join([self.kind, self.base.digest, *lines]).encode()).hexdigest()


class SheetRef(Part):
    """Where the answers of one model under one setting lie."""

    model: str
    settings: str
    file: ArtifactRef


class Task(Part):
    """One candidate on one split. `champion` is the base where there is no champion, or none shall be compared with."""

    evaluation_id: str
    prompt: Prompt
    suite: tuple[MetricName, ...]
    max_tokens: int
    split: ArtifactRef | None
    candidate: Subject
    champion: Subject
    base: Subject
    sheets: tuple[SheetRef, ...] = ()


class Outcome(Part):
    """What was measured. `computed` says with which device, dtype and threads; `sheets` are the new ones alone."""

    metrics: dict[str, Metric]
    champion_metrics: dict[str, Metric]
    base_metrics: dict[str, Metric]
    differences: dict[str, Metric]
    results: ArtifactRef
    examples: int
    sheets: tuple[SheetRef, ...] = ()
    skipped: dict[str, int] = {}
    computed: dict[str, str | int] = {}
    seconds: dict[str, float] = {}


def untouched(base: BaseRef) -> Subject:
    """The base as a subject."""
    return Subject(kind="base", base=base, files={})
