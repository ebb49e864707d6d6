"""The record formats that TRL documents (https://huggingface.co/docs/trl/dataset_formats), as pydantic classes.

Knows neither projects nor where a record came from.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import to_json

Content = Annotated[str, StringConstraints(max_length=100_000)]


class RecordPart(BaseModel):
    """Base of record formats: frozen and closed, so that a misspelt key is refused rather than dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(RecordPart):
    """One turn of a conversation, as in OpenAI's chat API."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Content


Turns = Annotated[tuple[Message, ...], Field(min_length=1, max_length=1000)]
TextOrTurns = Content | Turns


class Conversation(RecordPart):
    """Language modelling on a conversation: the last assistant turn is the completion."""

    messages: Turns


class PromptCompletion(RecordPart):
    """A prompt and what should follow it."""

    prompt: TextOrTurns
    completion: TextOrTurns


class Preference(RecordPart):
    """A prompt with a chosen and a rejected completion."""

    prompt: TextOrTurns
    chosen: TextOrTurns
    rejected: TextOrTurns


class UnpairedPreference(RecordPart):
    """A prompt and completion with a verdict: true is desirable."""

    prompt: TextOrTurns
    completion: TextOrTurns
    label: bool


class PlainText(RecordPart):
    """Plain language modelling."""

    text: Content


Record = Conversation | PromptCompletion | Preference | UnpairedPreference | PlainText
RecordFormat = Literal["messages", "prompt_completion", "preference", "unpaired_preference", "text"]

FORMATS: dict[frozenset[str], tuple[RecordFormat, type[Record]]] = {
    frozenset({"messages"}): ("messages", Conversation),
    frozenset({"prompt", "completion"}): ("prompt_completion", PromptCompletion),
    frozenset({"prompt", "chosen", "rejected"}): ("preference", Preference),
    frozenset({"prompt", "completion", "label"}): ("unpaired_preference", UnpairedPreference),
    frozenset({"text"}): ("text", PlainText),
}

RECORD: TypeAdapter[Record] = TypeAdapter(Record)

_SORTED = {cls: tuple(sorted(cls.model_fields)) for _, cls in FORMATS.values()}


class RecordInvalid(ValueError):
    """A record is of none of the formats; `code` is a stable word, the message says where and what would be right."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def parse_record(raw: Any) -> tuple[RecordFormat, Record]:
    """The format and the typed record of a JSON value.

    Raises:
        RecordInvalid: `not_an_object`, `unknown_format` or `invalid_field`.
    """
    if not isinstance(raw, dict):
        raise RecordInvalid("not_an_object", f"record is {type(raw).__name__}; give a JSON object")
    known = FORMATS.get(frozenset(raw))
    if known is None:
        keys = ", ".join(sorted(map(str, raw))[:10]) or "none"
        shapes = "; ".join(" + ".join(sorted(k)) for k in FORMATS)
        raise RecordInvalid("unknown_format", f"record has the keys {keys}; give exactly one of: {shapes}")
    name, cls = known
    try:
        return name, cls.__pydantic_validator__.validate_python(raw)  # model_validate, only quicker
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordInvalid("invalid_field", f"record.{where}: {first['msg']}") from error


def canonical_record(record: Record) -> str:
    """The record as `canonical` writes its JSON, in a fifth of the time."""
    values = record.__dict__
    return to_json({name: _plain(values[name]) for name in _SORTED[type(record)]}).decode()


def _plain(value: Any) -> Any:
    return [{"content": turn.content, "role": turn.role} for turn in value] if isinstance(value, tuple) else value


def turns(value: TextOrTurns, role: Literal["user", "assistant"]) -> tuple[Message, ...]:
    """`value` as conversation turns; a plain text becomes one turn of `role`."""
    return (Message(role=role, content=value),) if isinstance(value, str) else value
