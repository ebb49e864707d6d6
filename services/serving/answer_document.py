"""The answers of OpenAI's routes, for the OpenAPI document: what domain/choice_answers.py and responses_answer.py make.

They make dictionaries, since an answer is not checked on its way out; a test holds each of theirs to these classes.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.serving.request_document import inlined


class Closed(BaseModel):
    """An object without other fields than these."""

    model_config = ConfigDict(extra="forbid")


class Usage(Closed):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class LikelyToken(Closed):
    """A token, and how likely the model found it."""

    token: str
    logprob: float
    bytes: list[int]


class ScoredToken(LikelyToken):
    """A token of an answer, with the likeliest in its place."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(Closed):
    """Of a chat's choice."""

    content: list[ScoredToken]
    refusal: None


class Function(Closed):
    """A function that is called; `arguments` is JSON text."""

    name: str
    arguments: str


class Call(Closed):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: Function


class Message(Closed):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[Call] = Field(default_factory=list[Call])


class ChatChoice(Closed):
    """One of a chat's answers."""

    index: int
    message: Message
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]


class _Choices(Closed):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage


class ChatAnswer(_Choices):
    """OpenAI's chat completion object."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextLogprobs(Closed):
    """Of a completion's choice, by token; the first of an echoed prompt has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TextChoice(Closed):
    """One of a completion's texts."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"]


class CompletionAnswer(_Choices):
    """OpenAI's completion object."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class OutputText(Closed):
    """The text of an output message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] = Field(max_length=0)
    logprobs: list[ScoredToken]


class OutputMessage(Closed):
    """A message of a response."""

    type: Literal["message"]
    id: str
    status: Literal["completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputText]


class OutputCall(Closed):
    """A call of a response."""

    type: Literal["function_call"]
    id: str
    status: Literal["completed", "incomplete"]
    call_id: str
    name: str
    arguments: str


class InputDetails(Closed):
    """Of input tokens; the engine does not tell what it found in its cache."""

    cached_tokens: Literal[0]
    cache_write_tokens: Literal[0]


class OutputDetails(Closed):
    """Of output tokens."""

    reasoning_tokens: Literal[0]


class ResponseUsage(Closed):
    """Tokens of a response."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class IncompleteDetails(Closed):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"]


class ResponseAnswer(Closed):
    """OpenAI's response object; from `instructions` on it repeats the request."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    background: Literal[False]
    error: None
    incomplete_details: IncompleteDetails | None
    model: str
    output: list[Annotated[OutputMessage | OutputCall, Field(discriminator="type")]]
    previous_response_id: None
    reasoning: dict[str, None]
    store: Literal[False]
    truncation: Literal["disabled"]
    usage: ResponseUsage
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    user: str | None


class ModelCard(Closed):
    """OpenAI's model object; `root` is the version behind the name, `ready` whether it is loaded."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    ready: bool


class ModelList(Closed):
    """OpenAI's list of models."""

    object: Literal["list"]
    data: list[ModelCard]


class Embedding(Closed):
    """The embedding of one text; as `base64` its float32 values, little-endian."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(Closed):
    """Tokens of a request for embeddings."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Closed):
    """OpenAI's list of embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


def answer_document(body: type[BaseModel], stream: bool = False) -> dict[int | str, dict[str, Any]]:
    """The answer 200 of an operation whose function makes it itself; `stream`: also as server-sent events."""
    content: dict[str, Any] = {"application/json": {"schema": inlined(body)}}
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {200: {"description": body.__doc__ or "", "content": content}}
