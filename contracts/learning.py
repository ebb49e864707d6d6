"""What of people's feedback becomes training examples: the project's `learn`. Pure; decides nothing by itself."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Literal, cast

from pydantic import Field, model_validator

from contracts.kinds import LEARNT
from contracts.sections import Duration, Section

SourceName = Literal["corrections", "pairs", "comparisons", "thumbs", "scores", "approved", "teacher"]
"""Where an example comes from: one for each field of Learning that is a Source."""

NATURAL: Mapping[SourceName, str | None] = {
    "corrections": None,
    "pairs": "preference",
    "comparisons": None,
    "thumbs": "undesirable",
    "scores": "undesirable",
    "approved": None,
}
"""Sources that are on by themselves: always, or where the project's method learns from this kind of row (contracts/kinds.py)."""


def _immediate(wait: timedelta) -> bool:
    return not wait


class Source(Section):
    """How much of one source is learnt. Caps count examples that were said within the last 24 hours."""

    weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the source's examples that are kept, by their identity; 0: none. Absent: all of corrections, "
        "comparisons and approved answers; pairs, thumbs and scores where train.method learns from them; no teacher's answers",
    )
    per_user: int = Field(default=20, ge=1, description="Examples of one user a day; more are held for review")
    per_day: int = Field(default=1000, ge=1, description="Examples a day; more are held for review")
    agree: int = Field(
        default=1, ge=1, le=100, description="So many users must say the same of the same question before it counts"
    )
    min_chars: int = Field(default=1, ge=0, description="Shorter answers are not learnt")
    max_chars: int = Field(default=100_000, ge=1, description="Longer answers are not learnt")

    @model_validator(mode="after")
    def _leaves_room(self) -> "Source":
        if self.min_chars > self.max_chars:
            raise ValueError(
                f"min_chars {self.min_chars} is more than max_chars {self.max_chars}; nothing would be learnt"
            )
        return self


class Scores(Source):
    """Scores at the ends are verdicts; those between are not learnt."""

    low: float = Field(default=0.2, ge=0, le=1, description="Up to this an answer is undesirable")
    high: float = Field(default=0.8, ge=0, le=1, description="From this on an answer is desirable")

    @model_validator(mode="after")
    def _are_ends(self) -> "Scores":
        if self.low >= self.high:
            raise ValueError(f"scores.low {self.low:g} is to be less than scores.high {self.high:g}")
        return self


class Teachers(Source):
    """A teacher's answers are told by nobody's judgement, so that many of one user do no harm."""

    per_user: int = Field(default=1000, ge=1, description="Answers to one user a day; more are not learnt")
    per_day: int = Field(default=1000, ge=1, description="Answers a day; more are not learnt")


class Learning(Section):
    """What people say of answers, as training examples: by policy, and what is doubtful is held for review."""

    corrections: Source = Field(default=Source(), description="The question with the corrected answer")
    pairs: Source = Field(default=Source(), description="A correction preferred to the answer that it corrects")
    comparisons: Source = Field(default=Source(), description="The better and the worse of two answers")
    thumbs: Source = Field(default=Source(), description="Answers labelled by a thumb")
    scores: Scores = Field(default=Scores(), description="Answers labelled by a score at one of the ends")
    approved: Source = Field(default=Source(), description="Answers with a thumb up, learnt as they were given")
    teacher: Teachers = Field(
        default=Teachers(), description="Answers of serve.teacher, learnt as they were given, where weight says so"
    )
    wait: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        le=timedelta(days=30),
        exclude_if=_immediate,
        description="An example waits so long for what others say of the same answer, and is judged then",
    )
    contested: Literal["hold", "learn"] = Field(
        default="hold",
        description="Whether an example is held that others contradict with as much weight as it is said",
    )
    alike: int = Field(
        default=5,
        ge=1,
        description="So many nearly equal answers within a day, on other requests, count; further ones are held for review",
    )

    def share(self, source: SourceName, methods: Collection[str]) -> float:
        """The share of a source's examples that is kept where these methods are trained; from 0 to 1."""
        own = cast(Source, getattr(self, source))
        if own.weight is not None or source not in NATURAL:
            return own.weight or 0.0
        kind = NATURAL[source]
        return 1.0 if kind is None or any(kind in LEARNT.get(method, ()) for method in methods) else 0.0

    def source(self, source: SourceName) -> Source:
        """What is said of a source."""
        return cast(Source, getattr(self, source))
