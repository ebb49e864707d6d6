"""What a client asks, in whichever of OpenAI's forms it came: what the gateway goes on with. Knows no body and no model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Endpoint = Literal["chat.completions", "completions", "responses"]


@dataclass(frozen=True, slots=True)
class WantedPrompt:
    """What a request says of the project's prompt: a version, else the one that is served; values of its variables."""

    version: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was understood. `messages` (chat, responses) or `prompt` (completions) is set, the other None."""

    endpoint: Endpoint
    model: str
    messages: tuple[dict[str, Any], ...] | None = None
    prompt: str | None = None
    token_ids: tuple[int, ...] = ()
    """Of the prompt, where it came as such; `prompt` is empty then."""
    prompts: tuple[str | tuple[int, ...], ...] = ()
    """Of a completion: all, of which `parts` makes requests of one each."""
    n: int = 1
    index: int = 0
    """Of its choice among those of the request."""
    again: bool = False
    """Whether a choice before it has the same prompt, whose tokens the client is told of once."""
    logprobs: int | None = None
    """How many likeliest tokens are told beside each; None tells of none."""
    echo: bool = False
    """Whether the answer's text begins with the prompt."""
    logit_bias: Mapping[str, float] = field(default_factory=dict[str, float])
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    """0 of a completion that is its prompt's echo alone."""
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    penalties: Mapping[str, float] = field(default_factory=dict[str, float])
    extras: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """VLLM's sampling parameters, see EXTRAS."""
    tools: tuple[dict[str, Any], ...] = ()
    """On offer to the model; empty too where the request says that none may be called."""
    chose_tools: bool = False
    """Whether the request said which tools there are, or that none may be called: else the project's are on offer."""
    forced: tuple[str, ...] = ()
    """Names of the tools of which the model must call one; empty where it need not."""
    strict: bool = False
    """Whether what cannot be enforced of the forced tools' schemas is refused."""
    parallel: bool = True
    structured: Mapping[str, Any] | None = None
    """What the answer must look like: vLLM's structured_outputs."""
    structured_by: str = ""
    """The parameter that says so."""
    wanted_prompt: WantedPrompt | None = None
    user: str | None = None
    metadata: Mapping[str, str] | None = None
    shown: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the answer repeats of the request, in the client's own form: a response's."""
    store: bool = True
    """False: counted, but no text of it is kept."""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The sampling parameters and tools that the request set, as it set them: for the record."""
