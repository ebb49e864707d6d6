"""How accepted records become a dataset: a project file's section `prep`."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from contracts.sections import Duration, Section
from contracts.steps import Language, LanguageStep, Step, Synthetic, SyntheticStep

SplitBy = Annotated[str, StringConstraints(pattern=r"^(prompt|conversation|subject|time|tag:.{1,200})$")]


def _absent(value: Any) -> bool:
    return value is None


class Split(Section):
    """What records are divided by: those of one prompt, conversation, subject or value of a tag are on one side.

    A record without that is divided by its prompt. `time` holds out the newest. Where `stratify` names a tag, each of its
    values has the shares for itself.
    """

    by: SplitBy = "prompt"
    stratify: Annotated[str, StringConstraints(pattern=r"^tag:.{1,200}$")] | None = Field(
        default=None, exclude_if=_absent
    )


def _by_prompt(split: Split) -> bool:
    return split == Split()


class Freeze(Section):
    """When a dataset is frozen: once `records` new or changed records wait and none has come for `quiet`."""

    records: int = Field(default=500, ge=1)
    quiet: Duration = Field(default=timedelta(seconds=20), ge=timedelta(0))


class Prep(Section):
    """How accepted records become a dataset."""

    held_out: float = Field(default=0.15, ge=0, le=0.9)
    validation: float = Field(default=0.05, ge=0, le=0.9)
    deduplicate: Literal["exact", "none"] = "exact"
    min_chars: int = Field(default=1, ge=0, description="Least length of a completion in characters")
    max_chars: int = Field(default=20_000, ge=1, description="Greatest length of a whole record in characters")
    steps: tuple[Step, ...] | None = Field(
        default=None,
        max_length=50,
        exclude_if=_absent,
        description="What is left out, step by step; default: length, duplicates, near_duplicates as the keys here say",
    )
    language: Language | None = Field(
        default=None,
        exclude_if=_absent,
        description="The step language, before all others: how it was said before it was one",
    )
    synthetic: Synthetic | None = Field(
        default=None,
        exclude_if=_absent,
        description="The step synthetic, after all others: how it was said before it was one",
    )
    split: Split = Field(default=Split(), exclude_if=_by_prompt, description="What is held out together")
    freeze: Freeze = Freeze()

    @model_validator(mode="after")
    def _leaves_train(self) -> "Prep":
        if self.held_out + self.validation >= 1:
            raise ValueError("held_out + validation leave nothing to train on; keep their sum below 1")
        return self

    @model_validator(mode="after")
    def _says_it_once(self) -> "Prep":
        if self.steps is not None and (self.deduplicate, self.min_chars, self.max_chars) != ("exact", 1, 20_000):
            raise ValueError("steps stand beside deduplicate, min_chars or max_chars; say those as steps too")
        for key, step in (("language", LanguageStep), ("synthetic", SyntheticStep)):
            if getattr(self, key) and any(isinstance(each, step) for each in self.steps or ()):
                raise ValueError(f"{key} stands beside steps and among them; keep the step")
        return self
