"""The steps of preparation, by which records are left out: what people write of them and what travels with events."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    ValidationInfo,
    WithJsonSchema,
)

from contracts.compat import OTHERS
from contracts.languages import CONFIDENCE, LanguageCode
from contracts.placeholders import HIDDEN, Kind
from contracts.sections import APPLYING, Section

Rule = Literal[
    "gopher_words", "gopher_word_length", "gopher_symbols", "gopher_letters", "gopher_stop_words",
    "gopher_bullets", "gopher_ellipses", "c4_lorem_ipsum", "c4_braces", "c4_javascript",
    "fineweb_punctuation", "fineweb_short_lines", "fineweb_repeated_lines",
]  # fmt: skip
DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}@[1-9][0-9]{0,8}$")]
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


class LanguageStep(Language):
    """The same as a step."""

    step: Literal["language"]


class Pii(Section):
    """Drops `pii_KIND`: a text of the record holds a secret or personal data, as the door finds them; without kinds, any."""

    step: Literal["pii"]
    kinds: tuple[Kind, ...] = Field(default=(), max_length=len(HIDDEN), exclude_if=_empty)


class Toxicity(Section):
    """Drops `toxic`: a piece of prompt or completion is toxic with at least this probability. Of English alone."""

    step: Literal["toxicity"]
    above: float = Field(default=0.8, gt=0, le=1)


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


class Synthetic(Section):
    """Drops `synthetic` from train: records with the tag, unless it says no, beyond their share of all that train holds."""

    tag: TagName
    at_most: float = Field(ge=0, lt=1)


class SyntheticStep(Synthetic):
    """The same as a step."""

    step: Literal["synthetic"]


Known = (
    Length
    | Duplicates
    | NearDuplicates
    | Quality
    | Matching
    | LanguageStep
    | Pii
    | Toxicity
    | Decontaminate
    | Cap
    | Mix
    | SyntheticStep
)
KINDS: tuple[type[Known], ...] = get_args(Known)
NAMES: tuple[str, ...] = tuple(get_args(kind.model_fields["step"].annotation)[0] for kind in KINDS)
"""Of the steps that there are."""


def _tag(raw: Any) -> Any:
    name = raw.get("step") if isinstance(raw, Mapping) else getattr(raw, "step", None)
    return "other" if isinstance(name, str) and name not in NAMES else name


def _read(raw: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
    """Only who applies a project is told that there is no such step: to whoever reads an event it may be one that comes later."""
    if info.context == APPLYING:
        name = str(raw["step"])
        near = get_close_matches(name, NAMES, n=1, cutoff=0.6)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(NAMES)}"
        raise ValueError(f"no step is called {name[:40]!r}; {meant}")
    return raw


OTHER_STEP = {
    "title": "OtherStep",
    "description": "A step that came later: a consumer that does not know it passes it on, and a freeze by it fails.",
    "type": "object",
    "required": ["step"],
    "properties": {"step": {"type": "string", "not": {"enum": sorted(NAMES)}}},
    OTHERS: True,
}
Other = dict[str, JsonValue]
"""A step that is not known here, as it came."""
Step = Annotated[
    Annotated[Length, Tag("length")]
    | Annotated[Duplicates, Tag("duplicates")]
    | Annotated[NearDuplicates, Tag("near_duplicates")]
    | Annotated[Quality, Tag("quality")]
    | Annotated[Matching, Tag("pattern")]
    | Annotated[LanguageStep, Tag("language")]
    | Annotated[Pii, Tag("pii")]
    | Annotated[Toxicity, Tag("toxicity")]
    | Annotated[Decontaminate, Tag("decontaminate")]
    | Annotated[Cap, Tag("cap")]
    | Annotated[Mix, Tag("mix")]
    | Annotated[SyntheticStep, Tag("synthetic")]
    | Annotated[Other, AfterValidator(_read), WithJsonSchema(OTHER_STEP), Tag("other")],
    Discriminator(_tag),
]
"""By a function: a discriminator's own keyword is OpenAPI's, and AsyncAPI's is another."""
