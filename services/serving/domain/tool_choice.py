"""Which tools a chat leaves to the model, and of which it must call one. Knows no endpoint but chat's form.

Source: https://platform.openai.com/docs/api-reference/chat/create (tool_choice).
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, Field

from services.serving.domain.errors import Invalid
from services.serving.domain.turns import Tool

Word = Literal["auto", "none", "required"]


class _Name(BaseModel):
    name: str


class _Named(BaseModel):
    type: Literal["function"]
    function: _Name


class _Of(BaseModel):
    mode: Literal["auto", "required"]
    tools: list[_Named] = Field(min_length=1)


class _Allowed(BaseModel):
    type: Literal["allowed_tools"]
    allowed_tools: _Of


def documented(kind: Any) -> BeforeValidator:
    """What the OpenAPI document says of a value that is read, and refused by name, elsewhere."""
    return BeforeValidator(lambda value: value, json_schema_input_type=kind)


ToolChoice = Annotated[Any, documented(Word | _Named | _Allowed | None)]


def choose(choice: Any, tools: Sequence[Tool]) -> tuple[tuple[Tool, ...], tuple[Tool, ...]]:
    """The tools on offer, and those of which the model must call one: none where it is free to call or may not.

    Raises:
        Invalid: the choice is none that is offered, or names no tool of the request.
    """
    match choice:
        case None | "auto":
            return tuple(tools), ()
        case "none":
            return (), ()
        case "required":
            if not tools:
                raise _refused("'required' needs tools")
            return tuple(tools), tuple(tools)
        case {"type": "function", "function": {"name": name}}:
            return tuple(tools), (_tool(name, tools),)
        case {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto" | "required" as mode, "tools": [_, *_] as some},
        }:
            allowed = tuple(_tool(_name(each), tools) for each in cast(list[Any], some))
            return allowed, allowed if mode == "required" else ()
        case _:
            form = '{"type": "function", "function": {"name": ...}}'
            raise _refused(f"give 'auto', 'none', 'required', {form} or allowed_tools of these")


def _tool(name: Any, tools: Sequence[Tool]) -> Tool:
    """The tool of this name.

    Raises:
        Invalid: there is none.
    """
    if (found := next((tool for tool in tools if tool.function.name == name), None)) is None:
        raise _refused(f"no tool is named {name!r}")
    return found


def _name(allowed: Any) -> Any:
    match allowed:
        case {"type": "function", "function": {"name": name}}:
            return name
        case _:
            return None


def _refused(said: str) -> Invalid:
    return Invalid(f"tool_choice: {said}"[:250], "invalid_value", "tool_choice")
