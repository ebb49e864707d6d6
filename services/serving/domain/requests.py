"""What an OpenAI request asks, parsed from its body: an `Asked`, or a fault that names the parameter. Knows no model.

Parameters that would change the answer and are not offered are refused; harmless ones (metadata, store ...) are
ignored, so that the openai, LangChain and LlamaIndex clients work unchanged.
Source: https://platform.openai.com/docs/api-reference/chat/create and .../completions/create.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from services.serving.domain.errors import Invalid

Endpoint = Literal["chat.completions", "completions"]
MAX_MESSAGES = 1000
_RECORDED = ("temperature", "top_p", "max_tokens", "stop", "seed", "presence_penalty", "frequency_penalty")
_UNOFFERED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "echo": (False,),
    "suffix": ("",),
    "audio": (),
    "modalities": (["text"],),
    "web_search_options": (),
}
"""Parameters that are not offered, with the values that ask for nothing; null asks for nothing too."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was understood. `messages` (chat) or `prompt` (completions) is set, the other None."""

    endpoint: Endpoint
    model: str
    messages: tuple[dict[str, Any], ...] | None = None
    prompt: str | None = None
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    penalties: Mapping[str, float] = field(default_factory=dict[str, float])
    user: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The sampling parameters that the request set, as it set them: for the record."""


def _joined_parts(value: Any) -> Any:
    """Message content as text: a list of text parts is joined as OpenAI's models read it, one after the other."""
    if not isinstance(value, list):
        return value
    texts: list[str] = []
    for part in cast(list[Any], value):
        known: Any = cast(dict[str, Any], part) if isinstance(part, dict) else {"type": "text", "text": part}
        if known.get("type") not in ("text", "refusal"):
            raise ValueError(f"content parts of type {known.get('type')!r} are not offered; give text")
        texts.append(_text_of(known))
    return "".join(texts)


def _text_of(part: Mapping[str, Any]) -> str:
    text = part.get("text", part.get("refusal"))
    if not isinstance(text, str):
        raise ValueError("a text part needs 'text', a string")
    return text


def _as_list(value: Any) -> Any:
    return [] if value is None else [value] if isinstance(value, str) else value


def _only_prompt(value: Any) -> Any:
    """The one prompt of a list of one; several, and token ids, are refused."""
    if not isinstance(value, list):
        return value
    items = cast(list[Any], value)
    if len(items) != 1 or not isinstance(items[0], str):
        raise ValueError("give one prompt as text; several prompts and token ids are not offered")
    return items[0]


class _Turn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_joined_parts)] = None
    name: str | None = Field(default=None, max_length=200)


class _StreamOptions(BaseModel):
    include_usage: bool | None = None


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: str = Field(min_length=1, max_length=200)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1, strict=True)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1, strict=True)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], BeforeValidator(_as_list)] = Field(
        default_factory=list[str], max_length=4
    )
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    user: str | None = Field(default=None, max_length=1000)


class _ChatBody(_Body):
    messages: list[_Turn] = Field(min_length=1, max_length=MAX_MESSAGES)


class _CompletionBody(_Body):
    prompt: Annotated[str, BeforeValidator(_only_prompt), Field(min_length=1)]


def parse_chat(body: bytes) -> Asked:
    """The request of a body to /v1/chat/completions.

    Raises:
        Invalid: with the parameter at fault.
    """
    parsed = _validated(_ChatBody, body)
    return _asked(parsed, "chat.completions", messages=tuple(_message(t) for t in parsed.messages))


def parse_completion(body: bytes) -> Asked:
    """The request of a body to /v1/completions.

    Raises:
        Invalid: with the parameter at fault.
    """
    parsed = _validated(_CompletionBody, body)
    return _asked(parsed, "completions", prompt=parsed.prompt)


B = TypeVar("B", bound=_Body)


def _validated(cls: type[B], body: bytes) -> B:
    raw = _json_object(body)
    for name, harmless in _UNOFFERED.items():
        value = raw.get(name)
        if value is not None and value not in harmless:
            raise Invalid(f"{name} is not offered here; leave it out", "unsupported_parameter", name)
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
        raise Invalid(f"{where}: {first['msg'].removeprefix('Value error, ')}"[:500], code, where) from error


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value: Any = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Invalid(f"the body is no valid JSON: {error}"[:300], "invalid_json") from error
    if not isinstance(value, dict):
        raise Invalid("the body is no JSON object", "invalid_json")
    if b"\\u0000" in body and _holds_nul(value):
        raise Invalid("the body holds a NUL character, which no text store keeps; leave it out", "invalid_value")
    return cast(dict[str, Any], value)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_nul(k) or _holds_nul(v) for k, v in cast(dict[str, Any], value).items())
    if isinstance(value, list):
        return any(_holds_nul(item) for item in cast(list[Any], value))
    return isinstance(value, str) and "\x00" in value


def _asked(body: _Body, endpoint: Endpoint, **content: Any) -> Asked:
    parameters = body.model_dump(include=set(_RECORDED), exclude_defaults=True, exclude_none=True)
    limit = body.max_completion_tokens or body.max_tokens
    return Asked(
        endpoint=endpoint,
        model=body.model,
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        max_tokens=limit,
        temperature=body.temperature,
        top_p=body.top_p,
        stop=tuple(body.stop),
        seed=body.seed,
        penalties={k: v for k, v in parameters.items() if k.endswith("_penalty")},
        user=body.user,
        parameters=parameters | ({"max_tokens": limit} if limit else {}),
        **content,
    )


def _message(turn: _Turn) -> dict[str, Any]:
    """A turn as templates take it: 'developer' is OpenAI's newer word for 'system'; absent content is empty."""
    role = "system" if turn.role == "developer" else turn.role
    return {"role": role, "content": turn.content or "", **({"name": turn.name} if turn.name else {})}
