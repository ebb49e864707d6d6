"""The turns of a conversation and the tools that a chat request brings, checked and as the record keeps them.

Source: https://platform.openai.com/docs/api-reference/chat/create and .../docs/guides/function-calling.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from services.serving.domain.errors import Invalid
from services.serving.domain.part import Part

MAX_TOOLS = 128
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
CallId = Annotated[str, Field(min_length=1, max_length=200)]


class TextPart(BaseModel):
    """A part of a message's content, for the OpenAPI document: `joined` reads it, and takes a text in its place."""

    type: Literal["text"]
    text: str


class RefusalPart(BaseModel):
    """A model's refusal, which is text too."""

    type: Literal["refusal"]
    refusal: str


def joined(*kinds: str) -> Callable[[Any], Any]:
    """Content as text: its parts, which are of these `kinds`, are joined as OpenAI's models read them, one after the other."""

    def text(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        texts: list[str] = []
        for part in cast(list[Any], value):
            known: Any = cast(dict[str, Any], part) if isinstance(part, dict) else {"type": kinds[0], "text": part}
            if known.get("type") not in kinds:
                raise ValueError(f"content parts of type {known.get('type')!r} are not offered; give text")
            texts.append(_text_of(known))
        return "".join(texts)

    return text


def _text_of(part: Mapping[str, Any]) -> str:
    text = part.get("text", part.get("refusal"))
    if not isinstance(text, str):
        raise ValueError("a text part needs 'text', a string")
    return text


class CalledFunction(BaseModel):
    """What a call names. `arguments` is the JSON text of an object, or what the model wrote instead of one.

    Agents send a broken call back with the error that came of it, so that the model writes a better one: a call that met
    `max_tokens` is no whole JSON.
    """

    name: _Name
    arguments: Annotated[str, AfterValidator(lambda value: value or "{}")]


class ToolCall(BaseModel):
    """A call that an assistant's turn made."""

    id: CallId
    type: Literal["function"] = "function"
    function: CalledFunction


class Turn(Part):
    """One message of a conversation. The last names are what clients keep of an answer, or other servers read: taken, ignored."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[
        str | None,
        BeforeValidator(
            joined("text", "refusal"), json_schema_input_type=str | list[str | TextPart | RefusalPart] | None
        ),
    ] = None
    name: str | None = Field(default=None, max_length=200)
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_call_id: CallId | None = None
    function_call: None = Field(default=None, description="The older word for tool_calls, which are what is taken")
    refusal: Any = None
    annotations: Any = None
    audio: Any = None
    images: Any = None
    parsed: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None
    reasoning_items: Any = None
    thinking_blocks: Any = None
    provider_specific_fields: Any = None
    extra_content: Any = None
    cache_control: Any = None
    weight: Any = None


def _of_an_object(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type", "object") != "object":
        raise ValueError(f"a function's parameters are of type 'object', not {schema['type']!r}"[:200])
    return schema


class OfferedFunction(Part):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: _Name
    description: str | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_of_an_object)] | None = None
    strict: bool | None = None


class Tool(BaseModel):
    """A tool on offer."""

    type: Literal["function"]
    function: OfferedFunction

    def body(self) -> dict[str, Any]:
        """OpenAI's object with what was given; templates read a description and parameters, so both are there."""
        given = self.function.model_dump(exclude_none=True, exclude={"strict"})
        empty = {"description": "", "parameters": {"type": "object", "properties": {}}}
        return {"type": "function", "function": {"name": self.function.name, **empty, **given}}


def message(turn: Turn) -> dict[str, Any]:
    """A turn as templates take it: 'developer' is OpenAI's newer word for 'system'; absent content is empty."""
    role = "system" if turn.role == "developer" else turn.role
    said: dict[str, Any] = {"role": role, "content": turn.content or ""}
    if turn.name:
        said["name"] = turn.name
    if turn.tool_calls:
        said["tool_calls"] = [call.model_dump() for call in turn.tool_calls]
    return said | ({"tool_call_id": turn.tool_call_id} if turn.tool_call_id else {})


def check_calls(turns: Sequence[Turn]) -> None:
    """Calls are an assistant's; what a `tool_call_id` answers was called before.

    Raises:
        Invalid: naming the turn.
    """
    called: set[str] = set()
    for i, turn in enumerate(turns):
        if turn.tool_calls and turn.role != "assistant":
            raise Invalid(f"messages.{i}.tool_calls: only an assistant calls tools", "invalid_value", f"messages.{i}")
        called |= {call.id for call in turn.tool_calls or ()}
        if turn.tool_call_id is not None and turn.tool_call_id not in called:
            where = f"messages.{i}.tool_call_id"
            raise Invalid(f"{where}: no earlier turn made the call {turn.tool_call_id!r}", "invalid_value", where)
