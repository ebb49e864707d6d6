"""How accepted records become a dataset: a project file's section `prep` and its steps."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from contracts.languages import CONFIDENCE, LanguageCode
from contracts.sections import Duration, Section

Rule = Literal[
    "gopher_words", "gopher_word_length", "gopher_symbols", "gopher_letters", "gopher_stop_words",
    "gopher_bullets", "gopher_ellipses", "c4_lorem_ipsum", "c4_braces", "c4_javascript",
    "fineweb_punctuation", "fineweb_short_lines", "fineweb_repeated_lines",
]  # fmt: skip
DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}@[1-9][0-9]{0,8}$")]
SplitBy = Annotated[str, StringConstraints(pattern=r"^(prompt|conversation|subject|time|tag:.{1,200})$")]
TagName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
By = Annotated[str, StringConstraints(pattern=r"^(subject|tag:.{1,200})$")]
_BEYOND = re.compile(r"\(\?(?:[=!]|<[=!]|P=)|\\[1-9]")


def _bounded(pattern: str) -> str:
    """Patterns run in RE2, in time linear in the text: it has no look-around and no references to groups."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    if _BEYOND.search(pattern):
        raise ValueError("has look-around or a reference to a group, which RE2, where it runs, does not have")
    return pattern


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_bounded)]


def _empty(names: tuple[str, ...]) -> bool:
    return not names


def _absent(value: Any) -> bool:
    return value is None


class Length(Section):
    """Drops `empty`, `too_short` and `too_few_tokens` (completions), `too_long` and `too_many_tokens` (whole records).

    Tokens are the base's own.
    """

    step: Literal["length"]
    min_chars: int = Field(default=1, ge=0)
    max_chars: int = Field(default=20_000, ge=1)
    min_tokens: int | None = Field(default=None, ge=1, exclude_if=_absent)
    max_tokens: int | None = Field(default=None, ge=1, exclude_if=_absent)


class Duplicates(Section):
    """Drops `duplicate`: the same content as another record."""

    step: Literal["duplicates"]


class NearDuplicates(Section):
    """Drops `near_held_out`, `near_validation` and, where within_train says so, `near_train`."""

    step: Literal["near_duplicates"]
    within_train: bool = False


class Quality(Section):
    """Drops `quality_RULE` by rules that were made for pages of the web."""

    step: Literal["quality"]
    rules: tuple[Rule, ...] = Field(min_length=1)


class Matching(Section):
    """Drops `pattern_NAME`: prompt or completion has a match."""

    step: Literal["pattern"]
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,40}$")]
    drop: Pattern


class Language(Section):
    """Drops `language_CODE`: a record in another language, `language_unknown` where no language is probable enough."""

    keep: tuple[LanguageCode, ...] = Field(min_length=1, max_length=177)
    min_confidence: float = Field(default=CONFIDENCE, ge=0, le=1)


class Decontaminate(Section):
    """Drops `contaminated` from train: so many words in a row stand in a held-out or validation record too.

    Where they stand in a dataset of `against`, all of whose records count, the reason is `contaminated_PROJECT@NUMBER`.
    """

    step: Literal["decontaminate"]
    words: int = Field(default=13, ge=5, le=100)
    against: tuple[DatasetName, ...] = Field(default=(), max_length=20, exclude_if=_empty)


class Cap(Section):
    """Drops `capped` from train: more records than `most` of one subject or of one value of a tag."""

    step: Literal["cap"]
    by: By
    most: int = Field(ge=1)


class Mix(Section):
    """Drops `mixed_out` from train until the values of a tag, or subjects, stand in these proportions; values not named go."""

    step: Literal["mix"]
    by: By
    weights: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(min_length=1, max_length=1000)


def _name(raw: Any) -> Any:
    return raw.get("step") if isinstance(raw, Mapping) else getattr(raw, "step", None)


Step = Annotated[
    Annotated[Length, Tag("length")]
    | Annotated[Duplicates, Tag("duplicates")]
    | Annotated[NearDuplicates, Tag("near_duplicates")]
    | Annotated[Quality, Tag("quality")]
    | Annotated[Matching, Tag("pattern")]
    | Annotated[Decontaminate, Tag("decontaminate")]
    | Annotated[Cap, Tag("cap")]
    | Annotated[Mix, Tag("mix")],
    Discriminator(_name),
]
"""By a function: a discriminator's own keyword is OpenAPI's, and AsyncAPI's is another.

Consumers of before would refuse a project with a step that they do not know: what comes later is a key of Prep, which they
ignore.
"""


class Synthetic(Section):
    """Drops `synthetic` from train: records with the tag, unless it says no, beyond their share of all that train holds."""

    tag: TagName
    at_most: float = Field(ge=0, lt=1)


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
        default=None, exclude_if=_absent, description="Languages that stay; before all steps"
    )
    synthetic: Synthetic | None = Field(
        default=None, exclude_if=_absent, description="Most of train that may be synthetic; after all steps"
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
        return self
