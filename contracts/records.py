"""The record formats that TRL documents (https://huggingface.co/docs/trl/dataset_formats), as pydantic classes.

Knows neither projects nor where a record came from; other shapes that people have become one of these at the door
(docs/data.md). What is not given is not written, so that a record without it has the bytes, and the digest, that it always had.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import to_json

from contracts.canonical import canonical

Content = Annotated[str, StringConstraints(max_length=100_000)]


def _absent(value: Any) -> bool:
    return value is None


class RecordPart(BaseModel):
    """Base of record formats: frozen and closed, so that a misspelt key is refused rather than dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FunctionCall(RecordPart):
    """Which function is called with what. `arguments` is the JSON text of an object, its keys in the order they were sent."""

    name: str = Field(min_length=1, max_length=200)
    arguments: Content


class ToolCall(RecordPart):
    """A call of a tool, as in OpenAI's chat API."""

    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(RecordPart):
    """One turn of a conversation, as in OpenAI's chat API. A turn of calls alone has the content ''."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Content
    name: str | None = Field(default=None, max_length=200, exclude_if=_absent, description="Who speaks, or which tool")
    tool_calls: tuple[ToolCall, ...] | None = Field(default=None, max_length=200, exclude_if=_absent)
    tool_call_id: str | None = Field(
        default=None, max_length=200, exclude_if=_absent, description="The call that a tool's turn answers"
    )
    weight: Literal[0, 1] | None = Field(
        default=None, exclude_if=_absent, description="0: an assistant's turn that is shown and not learnt"
    )


class Step(RecordPart):
    """One step of a solution with a verdict."""

    completion: Content
    label: bool


class ToolRecord(RecordPart):
    """Base of the formats that may bring tools."""

    tools: str | None = Field(
        default=None,
        max_length=200_000,
        exclude_if=_absent,
        description="JSON text of the list of OpenAI's tools, keys in the order they were sent",
    )
    chat_template_kwargs: dict[str, JsonValue] | None = Field(
        default=None, max_length=50, exclude_if=_absent, description="Further variables of the chat template"
    )
    parallel_tool_calls: bool | None = Field(
        default=None, exclude_if=_absent, description="As OpenAI's files have it; nothing here hangs on it"
    )


Turns = Annotated[tuple[Message, ...], Field(min_length=1, max_length=1000)]
TextOrTurns = Content | Turns


class Conversation(ToolRecord):
    """Language modelling on a conversation: the last assistant turn is the completion."""

    messages: Turns


class PromptCompletion(ToolRecord):
    """A prompt and what should follow it; TRL's prompt-only has the completion ''."""

    prompt: TextOrTurns
    completion: TextOrTurns


class Preference(ToolRecord):
    """A prompt with a chosen and a rejected completion."""

    prompt: TextOrTurns
    chosen: TextOrTurns
    rejected: TextOrTurns


class UnpairedPreference(ToolRecord):
    """A prompt and completion with a verdict: true is desirable.

    TRL's stepwise supervision has `steps` too: their lines are the completion, which is desirable where every step is.
    """

    prompt: TextOrTurns
    completion: TextOrTurns
    label: bool
    steps: tuple[Step, ...] | None = Field(default=None, min_length=1, max_length=1000, exclude_if=_absent)


class PlainText(RecordPart):
    """Plain language modelling."""

    text: Content


Record = Conversation | PromptCompletion | Preference | UnpairedPreference | PlainText
RecordFormat = Literal["messages", "prompt_completion", "preference", "unpaired_preference", "text"]
Kind = RecordFormat | Literal["tools", "prompt_only", "stepwise"]
"""What a record is good for; `tools` is any format whose turns call tools."""

FORMATS: dict[frozenset[str], tuple[RecordFormat, type[Record]]] = {
    frozenset({"messages"}): ("messages", Conversation),
    frozenset({"prompt", "completion"}): ("prompt_completion", PromptCompletion),
    frozenset({"prompt", "chosen", "rejected"}): ("preference", Preference),
    frozenset({"prompt", "completion", "label"}): ("unpaired_preference", UnpairedPreference),
    frozenset({"text"}): ("text", PlainText),
}
"""By the fields that a format needs; others of its class may stand beside them."""

RECORD: TypeAdapter[Record] = TypeAdapter(Record)

_SORTED = {cls: tuple(sorted(needed)) for needed, (_, cls) in FORMATS.items()}
_FURTHER = {cls: tuple(cls.model_fields.keys() - needed) for needed, (_, cls) in FORMATS.items()}


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
    known = FORMATS.get(frozenset(raw)) or _with_further(raw.keys())
    if known is None:
        keys = ", ".join(sorted(map(str, raw))[:10]) or "none"
        shapes = "; ".join(" + ".join(sorted(k)) for k in FORMATS)
        raise RecordInvalid("unknown_format", f"record has the keys {keys}; give exactly one of: {shapes}")
    name, cls = known
    try:
        return name, cls.__pydantic_validator__.validate_python(raw)  # model_validate, only quicker
    except ValidationError as error:
        first = next(each for each in error.errors(include_url=False, include_input=False) if _of_its_kind(each, raw))
        where = ".".join(str(part) for part in first["loc"] if part not in _TEXT_OR_TURNS)
        said = " is empty; give at least one" if first["type"] == "too_short" else f": {first['msg']}"
        raise RecordInvalid("invalid_field", f"record.{where}{said}") from error


_TEXT_OR_TURNS = ("constrained-str", "tuple[Message, ...]")
"""What pydantic calls the two that a prompt or an answer may be: it tells what keeps it from being either."""


def _of_its_kind(error: Any, raw: dict[str, Any]) -> bool:
    """Whether the error is of what was sent: of a text that it is too long, and not that it is no list of turns."""
    field, *within = error["loc"]
    if not within or within[0] not in _TEXT_OR_TURNS:
        return True
    return (within[0] == _TEXT_OR_TURNS[0]) == isinstance(raw[field], str)


def _with_further(keys: Any) -> tuple[RecordFormat, type[Record]] | None:
    fits = (found for needed, found in FORMATS.items() if needed <= keys and keys <= found[1].model_fields.keys())
    return next(fits, None)


def kind(record: Record) -> Kind:
    """What the record is good for."""
    match record:
        case PlainText():
            return "text"
        case UnpairedPreference():
            return "stepwise" if record.steps else "unpaired_preference"
        case PromptCompletion(completion=""):
            return "prompt_only"
        case Preference():
            return "preference"
        case _:
            told = (record.messages,) if isinstance(record, Conversation) else (record.prompt, record.completion)
            calls = any(isinstance(said, tuple) and any(turn.tool_calls for turn in said) for said in told)
            if calls:
                return "tools"
            return "messages" if isinstance(record, Conversation) else "prompt_completion"


def canonical_record(record: Record) -> str:
    """The record as `canonical` writes its JSON, in a fifth of the time where it has the formats' own fields alone."""
    values = record.__dict__
    if any(values[name] is not None for name in _FURTHER[type(record)]):
        return canonical(record.model_dump(mode="json"))
    plain = {name: _plain(values[name]) for name in _SORTED[type(record)]}
    return canonical(record.model_dump(mode="json")) if None in plain.values() else to_json(plain).decode()


def _plain(value: Any) -> Any:
    """Turns as sorted objects; None where one has more than role and content, which no field of a record is itself."""
    if not isinstance(value, tuple):
        return value
    if any(len(turn.__pydantic_fields_set__) > 2 for turn in value):
        return None
    return [{"content": turn.content, "role": turn.role} for turn in value]


def turns(value: TextOrTurns, role: Literal["user", "assistant"]) -> tuple[Message, ...]:
    """`value` as conversation turns; a plain text becomes one turn of `role`."""
    return (Message(role=role, content=value),) if isinstance(value, str) else value
