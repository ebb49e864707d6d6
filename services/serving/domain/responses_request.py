"""A body to /v1/responses as the chat that it asks: from there on it is one. Knows no model.

Answers are not kept, so whatever needs an earlier one is refused by name. What OpenAI runs itself (its tools) is not here.
Source: https://platform.openai.com/docs/api-reference/responses/create.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, Field, field_validator

from services.serving.domain.asked import Asked
from services.serving.domain.errors import Invalid
from services.serving.domain.parameters import Names
from services.serving.domain.part import Part
from services.serving.domain.project_prompt import PromptParam
from services.serving.domain.requests import MAX_MESSAGES, ChatBody, Count, Sampling, chat_asked, validated
from services.serving.domain.responses_items import Item, turns
from services.serving.domain.structured import JsonSchema, ResponseFormat
from services.serving.domain.tool_choice import Word, documented
from services.serving.domain.turns import MAX_TOOLS, OfferedFunction, Tool, Turn

LOGPROBS = "message.output_text.logprobs"
_HOLLOW = ("reasoning.encrypted_content",)
"""Of `include`: what no answer here has, and clients ask for as a matter of course."""
_WHOLE = "answers are not kept here: send the whole conversation as input"
_NAMES = Names(
    unoffered={
        "previous_response_id": (),
        "conversation": (),
        "background": (False,),
        "background_options": ({},),
        "reasoning": ({}, {"effort": None}, {"effort": "none"}, {"effort": None, "summary": None}),
        "truncation": ("disabled",),
        "context_management": ([],),
        "moderation": (),
        "access_programs": ({},),
        "image": ({},),
    },
    reasons={
        "previous_response_id": _WHOLE,
        "conversation": _WHOLE,
        "background": "an answer is given to the request that asks for it, whole or as a stream",
        "truncation": "a conversation that is too long is refused; shorten it",
        "reasoning": "no model here is told how much to reason; leave it out",
    },
    ignored=frozenset({"max_tool_calls", "prompt_cache_options"}),
)


class TextType(Part):
    """Any text."""

    type: Literal["text"]


class JsonObjectType(Part):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchemaType(JsonSchema):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    body: dict[str, Any] = Field(alias="schema")  # type: ignore[assignment]  # here it must be given


class TextConfig(Part):
    """What the answer's text looks like."""

    format: Annotated[TextType | JsonObjectType | JsonSchemaType, Field(discriminator="type")] | None = None
    verbosity: str | None = None

    @field_validator("verbosity")
    @classmethod
    def _usual(cls, value: str | None) -> str | None:
        if value not in (None, "medium"):
            raise ValueError("verbosity is not offered here; leave it out")
        return value


def _a_function(value: Any) -> Any:
    """A tool that is a function: those that OpenAI runs itself are refused by name."""
    kind = cast(dict[str, Any], value).get("type") if isinstance(value, dict) else "function"
    if kind != "function":
        raise ValueError(f"tools of type {kind!r} are not offered; give functions"[:200])
    return value


class FunctionTool(OfferedFunction):
    """A function on offer, in the flat form of Responses."""

    type: Literal["function"]

    def tool(self) -> Tool:
        """As chat offers it."""
        return Tool(type="function", function=OfferedFunction.model_validate(self.model_dump(exclude={"type"})))


class _Named(BaseModel):
    type: Literal["function"]
    name: str


class _Allowed(BaseModel):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[_Named] = Field(min_length=1)


class _StreamOptions(Part):
    include_obfuscation: bool | None = None


def _items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class ResponsesBody(Sampling):
    """The body of a request to /v1/responses."""

    input: Annotated[
        list[Item],
        BeforeValidator(_items, json_schema_input_type=str | list[Item]),
        Field(min_length=1, max_length=MAX_MESSAGES - 1),
    ]
    instructions: str | None = None
    prompt: PromptParam | None = None
    text: TextConfig | None = None
    tools: list[Annotated[FunctionTool, BeforeValidator(_a_function)]] | None = Field(
        default=None, max_length=MAX_TOOLS
    )
    tool_choice: Annotated[Any, documented(Word | _Named | _Allowed | None)] = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: Count | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    include: list[str] | None = Field(default=None, max_length=32)
    stream_options: _StreamOptions | None = None


def parse_responses(body: bytes) -> Asked:
    """The request of a body to /v1/responses.

    Raises:
        Invalid: with the parameter at fault.
    """
    parsed = validated(ResponsesBody, body, _NAMES)
    conversation = turns(parsed.input)
    if not conversation:
        raise Invalid("input: reasoning alone asks nothing", "invalid_value", "input")
    if parsed.instructions is not None:
        conversation = [Turn(role="system", content=parsed.instructions), *conversation]
    choice, allowed = _tool_choice(parsed.tool_choice, parsed.tools or [])
    logprobs = _logprobs(parsed)
    chat = ChatBody.model_construct(
        **{name: getattr(parsed, name) for name in Sampling.model_fields},
        messages=conversation,
        tools=[tool.tool() for tool in allowed] if allowed else None,
        tool_choice=choice,
        prompt=parsed.prompt,
        parallel_tool_calls=parsed.parallel_tool_calls,
        max_tokens=parsed.max_output_tokens,
        response_format=_format(parsed.text),
        logprobs=logprobs or None,
        top_logprobs=parsed.top_logprobs if logprobs else None,
    )
    asked = chat_asked(chat)
    by = "text.format" if asked.structured_by else ""
    return replace(asked, endpoint="responses", structured_by=by, shown=_shown(parsed))


def _logprobs(parsed: ResponsesBody) -> bool:
    """Whether logprobs are told: `include` says so, or `top_logprobs`, which is of them."""
    for name in parsed.include or ():
        if name != LOGPROBS and name not in _HOLLOW:
            raise Invalid(f"include: {name[:100]!r} is not offered here; leave it out", "invalid_value", "include")
    return LOGPROBS in (parsed.include or ()) or bool(parsed.top_logprobs)


def _tool_choice(choice: Any, tools: list[FunctionTool]) -> tuple[Any, list[FunctionTool]]:
    """A choice in chat's form, and the tools that it leaves.

    Raises:
        Invalid: it is none that is offered, or names no tool of the request.
    """
    if choice in (None, "auto", "none", "required"):
        return choice, tools
    match choice:
        case {"type": "function", "name": str(name)}:
            return {"type": "function", "function": {"name": name}}, tools
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": [_, *_] as allowed}:
            return mode, [_named(each, tools) for each in cast(list[Any], allowed)]
        case _:
            said = "give 'auto', 'none', 'required', {\"type\": \"function\", \"name\": ...} or allowed_tools of these"
            raise Invalid(f"tool_choice: {said}", "invalid_value", "tool_choice")


def _named(allowed: Any, tools: list[FunctionTool]) -> FunctionTool:
    name = cast(dict[str, Any], allowed).get("name") if isinstance(allowed, dict) else None
    found = next((tool for tool in tools if tool.name == name), None)
    if found is None:
        raise Invalid(f"tool_choice: no tool is named {name!r}"[:200], "invalid_value", "tool_choice")
    return found


def _format(text: TextConfig | None) -> ResponseFormat | None:
    if text is None or text.format is None:
        return None
    if not isinstance(text.format, JsonSchemaType):
        return ResponseFormat(type=text.format.type)
    schema = JsonSchema.model_validate(text.format.model_dump(by_alias=True, exclude={"type"}))
    return ResponseFormat(type="json_schema", json_schema=schema)


def _shown(parsed: ResponsesBody) -> dict[str, Any]:
    """What a Response object repeats of its request."""
    tools = [tool.model_dump() for tool in parsed.tools or ()]
    format: Any = {"type": "text"}
    if parsed.text and parsed.text.format:
        format = parsed.text.format.model_dump(by_alias=True, exclude_none=True)
    return {
        "instructions": parsed.instructions,
        "max_output_tokens": parsed.max_output_tokens,
        "metadata": parsed.metadata or {},
        "parallel_tool_calls": parsed.parallel_tool_calls is not False,
        "temperature": parsed.temperature,
        "text": {"format": format},
        "tool_choice": parsed.tool_choice or "auto",
        "tools": tools,
        "top_logprobs": parsed.top_logprobs or 0,
        "top_p": parsed.top_p,
        "user": parsed.user,
    }
