"""What an OpenAI request asks, parsed from its body: an `Asked`, or a fault that names the parameter. Knows no model.

Parameters that would change the answer and are not offered are refused, and so are names that nobody knows; a list of
harmless ones is ignored, so that the openai, LangChain and LlamaIndex clients work unchanged. vLLM's own sampling parameters
pass to the backend.
Sources: https://platform.openai.com/docs/api-reference/chat/create and .../completions/create,
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html (extra parameters).
"""

from dataclasses import replace
from typing import Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from services.serving.domain.asked import Asked, Endpoint
from services.serving.domain.errors import Invalid
from services.serving.domain.parameters import CHAT_NAMES, EXTRAS, PENALTIES, RECORDED, Names, check_names
from services.serving.domain.part import UNKNOWN, Part
from services.serving.domain.project_prompt import PromptParam, wanted_prompt
from services.serving.domain.structured import Structured, wanted
from services.serving.domain.tool_choice import ToolChoice, choose
from services.serving.domain.turns import MAX_TOOLS, Tool, Turn, check_calls, message

MAX_MESSAGES = 1000
MAX_CHOICES = 128
_MOST = 2**31 - 1
_Capped = AfterValidator(lambda value: min(value, _MOST))
Count = Annotated[int, Field(ge=1), _Capped]
"""Of tokens; more than any model holds are as many as it holds."""
_Stop = Annotated[str, Field(min_length=1, max_length=1000)]
_Stops = Annotated[list[_Stop], Field(max_length=4)]
_TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
_Token = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


def _as_list(value: Any) -> Any:
    return [] if value is None else [value] if isinstance(value, str) else value


def _prompts(value: Any) -> Any:
    """A prompt is a text or token ids; one, or a list of them."""
    items: list[Any] = cast(list[Any], value) if isinstance(value, list) else [value]
    prompts = [items] if isinstance(value, list) and items and all(type(item) is int for item in items) else items
    if not all(prompt and isinstance(prompt, str | list) for prompt in prompts):
        raise ValueError("give a text, a list of token ids, or a list of either, and none of them empty")
    return prompts


class _StreamOptions(Part):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Sampling(BaseModel):
    """What every endpoint takes, also under /v1/responses where OpenAI has not all of it."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)

    model: str = Field(min_length=1, max_length=200)
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: Annotated[list[_Stop], BeforeValidator(_as_list, json_schema_input_type=_Stop | _Stops | None)] = Field(
        default_factory=list[str], max_length=4
    )
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    user: str | None = Field(default=None, max_length=1000)
    metadata: dict[MetadataKey, MetadataValue] | None = Field(default=None, max_length=16)
    store: bool | None = None
    top_k: int | None = Field(default=None, ge=-1, le=2**31 - 1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    min_tokens: int | None = Field(default=None, ge=0, le=2**31 - 1)
    ignore_eos: bool | None = None
    stop_token_ids: list[Annotated[int, Field(ge=0, le=2**31 - 1)]] | None = Field(default=None, max_length=64)
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None


class Body(Structured, Sampling):
    """What chat and completions take."""

    stream_options: _StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    logit_bias: dict[_TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = Field(default=None, max_length=1024)


class ChatBody(Body):
    """The body of a request to /v1/chat/completions."""

    messages: list[Turn] = Field(min_length=1, max_length=MAX_MESSAGES)
    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    prompt: PromptParam | None = Field(default=None, description="As /v1/responses has it")


class CompletionBody(Body):
    """The body of a request to /v1/completions."""

    prompt: Annotated[
        list[str | list[_Token]],
        BeforeValidator(_prompts, json_schema_input_type=str | list[int] | list[str | list[int]]),
        Field(min_length=1, max_length=MAX_CHOICES),
    ]
    max_tokens: Annotated[int, Field(ge=0), _Capped] | None = Field(
        default=None, description="0 only with echo: the prompt alone, and its logprobs"
    )
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = None


def parse_chat(body: bytes) -> Asked:
    """The request of a body to /v1/chat/completions.

    Raises:
        Invalid: with the parameter at fault.
    """
    parsed = validated(ChatBody, body)
    check_calls(parsed.messages)
    if parsed.top_logprobs is not None and not parsed.logprobs:
        raise Invalid("top_logprobs: needs logprobs: true", "invalid_value", "top_logprobs")
    return chat_asked(parsed)


def chat_asked(parsed: ChatBody) -> Asked:
    """The request of a chat that was checked.

    Raises:
        Invalid: of its tools or its format one does not go with another.
    """
    tools = parsed.tools or []
    offered, forced = choose(parsed.tool_choice, tools)
    given = parsed.model_dump(include={"tools", "tool_choice", "parallel_tool_calls"}, exclude_none=True)
    asked = _asked(parsed, "chat.completions", messages=tuple(message(t) for t in parsed.messages))
    return replace(
        asked,
        logprobs=(parsed.top_logprobs or 0) if parsed.logprobs else None,
        tools=tuple(tool.body() for tool in offered),
        chose_tools=bool(tools) or parsed.tool_choice == "none",
        wanted_prompt=wanted_prompt(parsed.prompt, parsed.model),
        forced=tuple(tool.function.name for tool in forced),
        strict=any(tool.function.strict for tool in forced),
        parallel=parsed.parallel_tool_calls is not False,
        parameters={**asked.parameters, **(given if tools else {})},
    )


def parse_completion(body: bytes) -> Asked:
    """The request of a body to /v1/completions.

    Raises:
        Invalid: with the parameter at fault.
    """
    parsed = validated(CompletionBody, body)
    prompts = tuple(tuple(prompt) if isinstance(prompt, list) else prompt for prompt in parsed.prompt)
    if len(prompts) * (parsed.n or 1) > MAX_CHOICES:
        raise Invalid(f"n: at most {MAX_CHOICES} choices are given at once", "invalid_value", "n")
    if parsed.max_tokens == 0 and not parsed.echo:
        raise Invalid("max_tokens: 0 asks for nothing but an echo; give echo: true", "invalid_value", "max_tokens")
    return _asked(parsed, "completions", prompts=prompts, logprobs=parsed.logprobs, echo=bool(parsed.echo))


B = TypeVar("B", bound=BaseModel)


def validated(cls: type[B], body: bytes, names: Names = CHAT_NAMES) -> B:
    """A body's parameters as `cls` has them.

    Raises:
        Invalid: it is no JSON object, or naming the parameter that is unknown, unoffered, or none of the values it may have.
    """
    raw = _json_object(body)
    check_names(raw, cls.model_fields, names)
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == UNKNOWN:
            where, like = f"{where}.{first.get('ctx', {})['name']}", first["msg"]
            raise Invalid(f"Unrecognized request argument: {where}{like}"[:500], UNKNOWN, where) from error
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


def _asked(body: Body, endpoint: Endpoint, **content: Any) -> Asked:
    parameters = body.model_dump(include=set(RECORDED), exclude_defaults=True, exclude_none=True, by_alias=True)
    structured_by, structured = wanted(body) or ("", None)
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
        n=body.n or 1,
        logit_bias=body.logit_bias or {},
        penalties={k: v for k, v in parameters.items() if k in PENALTIES},
        extras={k: v for k, v in parameters.items() if k in EXTRAS},
        structured=structured,
        structured_by=structured_by,
        user=body.user,
        metadata=body.metadata,
        store=body.store is not False,
        parameters=parameters | ({"max_tokens": limit} if limit is not None else {}),
        **content,
    )
