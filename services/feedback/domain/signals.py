"""Feedback as people send it, and the signals it consists of: one a kind."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

Kind = Literal["thumb", "score", "correction", "comparison", "text"]
Thumb = Literal["up", "down"]


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("holds a NUL character")  # PostgreSQL stores none
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank; give some text or leave it out")
    return value


AnyText = Annotated[str, StringConstraints(max_length=100_000), AfterValidator(_without_nul)]
Text = Annotated[AnyText, AfterValidator(_not_blank)]
RequestId = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Words(BaseModel):
    """What one caller says, in one or several ways."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thumb: Thumb | None = None
    score: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    correction: Text | None = Field(default=None, description="What the answer should have been")
    chosen: Text | None = Field(default=None, description="The better of two answers")
    rejected: AnyText | None = Field(default=None, description="The worse of two answers")
    text: Text | None = Field(default=None, description="Anything in words")
    user: Annotated[str, StringConstraints(max_length=500), AfterValidator(_without_nul)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("a comparison needs both 'chosen' and 'rejected'")
        if self.chosen is not None and self.chosen == self.rejected:
            raise ValueError("'chosen' and 'rejected' are the same text")
        said = (self.thumb, self.score, self.correction, self.chosen, self.text)
        if all(part is None for part in said):
            raise ValueError("give at least one of thumb, score, correction, chosen with rejected, text")
        return self


class Feedback(Words):
    """What one caller says of one answer."""

    request_id: RequestId = Field(description="`id` of the gateway's answer")


class OfConversation(Words):
    """What one caller says of a conversation: it is said of its last answer, with all that came before."""

    project: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    conversation: RequestId = Field(description="What the requests' `metadata` call it")

    def on(self, request_id: str) -> Feedback:
        """The same of an answer."""
        return Feedback(request_id=request_id, **self.model_dump(exclude={"project", "conversation"}))


def _about_what(raw: Any) -> str:
    given = cast(dict[str, Any], raw) if isinstance(raw, dict) else {}
    return "conversation" if isinstance(raw, OfConversation) or "conversation" in given else "request"


Given = Annotated[
    Annotated[Feedback, Tag("request")] | Annotated[OfConversation, Tag("conversation")], Discriminator(_about_what)
]
"""As people send it."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One kind of feedback on one request. `signal_id` derives from all the rest."""

    signal_id: str
    request_id: str
    kind: Kind
    user: str | None = None
    thumb: Thumb | None = None
    score: float | None = None
    correction: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    text: str | None = None


def signals(feedback: Feedback) -> tuple[Signal, ...]:
    """The signals of `feedback`: those with a record first, at most one a kind."""
    return tuple(replace(s, signal_id=identity(s)) for s in _parts(feedback))


def identity(signal: Signal, number: int | None = None) -> str:
    """The id of a signal, whatever its present one is: the same for the same words.

    `number`, its place among the signals about the same, makes another id of words that were said before.
    """
    said = (signal.thumb, signal.score, signal.correction, signal.chosen, signal.rejected, signal.text)
    counted = () if number is None else (number,)
    whole = json.dumps([signal.request_id, signal.kind, signal.user, *said, *counted])
    return f"sig-{sha256(whole.encode()).hexdigest()[:24]}"


def says_the_same(one: Signal, other: Signal) -> bool:
    """Whether two signals differ in their ids alone."""
    return replace(one, signal_id="") == replace(other, signal_id="")


def about(signal: Signal) -> str:
    """What a signal is about, as a digest: of the signals about the same the last one counts.

    A request has one correction and each pair of answers one verdict, whoever gives it, since they become one record;
    every person has a thumb, a score and a text of their own.
    """
    match signal.kind:
        case "correction":
            rest: tuple[str | None, ...] = ()
        case "comparison":
            rest = tuple(sorted((signal.chosen or "", signal.rejected or "")))
        case _:
            rest = (signal.user,)
    return sha256(json.dumps([signal.request_id, signal.kind, *rest]).encode()).hexdigest()[:32]


def _parts(said: Feedback) -> Iterator[Signal]:
    on, by = said.request_id, said.user
    if said.correction is not None:
        yield Signal("", on, "correction", by, correction=said.correction)
    if said.chosen is not None:
        yield Signal("", on, "comparison", by, chosen=said.chosen, rejected=said.rejected)
    if said.thumb is not None:
        yield Signal("", on, "thumb", by, thumb=said.thumb)
    if said.score is not None:
        yield Signal("", on, "score", by, score=said.score)
    if said.text is not None:
        yield Signal("", on, "text", by, text=said.text)
