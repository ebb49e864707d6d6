"""The items of a Responses request's input, checked, and the turns of a conversation that they are. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/create (input).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag

from services.serving.domain.errors import Invalid
from services.serving.domain.turns import CalledFunction, CallId, RefusalPart, ToolCall, Turn, joined


class ResponseText(BaseModel):
    """A part of a message's content, for the OpenAPI document."""

    type: Literal["input_text", "output_text", "text"]
    text: str


_TEXT = BeforeValidator(
    joined("input_text", "output_text", "text", "refusal"),
    json_schema_input_type=str | list[str | ResponseText | RefusalPart],
)
_KINDS = ("message", "function_call", "function_call_output", "reasoning")
_REASONS: Mapping[str, str] = {
    "item_reference": "answers are not kept: send the items themselves, as clients do with store: false"
}


class InputMessage(BaseModel):
    """A message of a conversation, of whoever wrote it."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, _TEXT]


class FunctionCall(CalledFunction):
    """A call that the model made."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function_call"]
    call_id: CallId


class FunctionCallOutput(BaseModel):
    """What a call gave."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function_call_output"]
    call_id: CallId
    output: Annotated[str, _TEXT]


class Reasoning(BaseModel):
    """What another model thought; no template here reads it, and it is left out."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["reasoning"]


def _kind(value: Any) -> str | None:
    if isinstance(value, BaseModel):
        return getattr(value, "type", None)
    return cast(dict[str, Any], value).get("type", "message") if isinstance(value, dict) else None


def _known(value: Any) -> Any:
    """An item of a kind that is offered: the others are refused by name."""
    if (kind := _kind(value)) not in _KINDS:
        why = _REASONS.get(str(kind), f"give {', '.join(_KINDS[:3])}")
        raise ValueError(f"items of type {kind!r} are not offered; {why}")
    return value


Item = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[Reasoning, Tag("reasoning")],
    Discriminator(_kind),
    BeforeValidator(_known),
]


def turns(items: Sequence[Item]) -> list[Turn]:
    """The turns that the items are: calls that follow each other are one turn, and so is the text around them.

    Raises:
        Invalid: naming the item that answers a call which none before it made.
    """
    found: list[Turn] = []
    called: set[str] = set()
    for i, item in enumerate(items):
        last = found[-1] if found and found[-1].role == "assistant" else None
        match item:
            case InputMessage():
                if item.role == "assistant" and last is not None and last.tool_calls:
                    last.content = (last.content or "") + item.content
                else:
                    found.append(Turn(role=item.role, content=item.content))
            case FunctionCall():
                if last is None:
                    found.append(last := Turn(role="assistant"))
                function = CalledFunction(name=item.name, arguments=item.arguments)
                last.tool_calls = [*(last.tool_calls or ()), ToolCall(id=item.call_id, function=function)]
                called.add(item.call_id)
            case FunctionCallOutput():
                if item.call_id not in called:
                    where = f"input.{i}.call_id"
                    raise Invalid(f"{where}: no earlier item made the call {item.call_id!r}", "invalid_value", where)
                found.append(Turn(role="tool", content=item.output, tool_call_id=item.call_id))
            case Reasoning():
                pass
    return found
