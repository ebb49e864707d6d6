"""A request as the text and the sampling parameters that Triton's `vllm` backend takes."""

from typing import Any

from contracts.chat import with_system
from contracts.project import Prompt
from contracts.records import Message
from services.lm.errors import TextRefused
from services.lm.template import Rendered
from services.serving.domain.errors import Invalid
from services.serving.domain.requests import Asked
from services.serving.domain.routing import Target


def prompt_text(asked: Asked, target: Target) -> Rendered:
    """The text that the model continues: the rendered chat, or a completion's prompt as it is.

    Raises:
        Invalid: the model has no chat template, or its template refuses these messages.
    """
    if asked.messages is None:
        return Rendered(asked.prompt or "", plain=True)
    if target.template is None:
        raise Invalid(f"{target.name} has no chat template; use /v1/completions", "no_chat_template", "model")
    try:
        return target.template.render(with_project_prompt(target.prompt, asked.messages))
    except TextRefused as error:
        raise Invalid(str(error)[:500], "invalid_value", "messages") from error


def with_project_prompt(prompt: Prompt, messages: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """`messages` behind the project's system prompt, unless they bring one of their own."""
    first = Message(role=messages[0]["role"], content="")
    added = with_system(prompt, (first,))[:-1]
    return (*({"role": m.role, "content": m.content} for m in added), *messages)


def sampling_parameters(asked: Asked, target: Target) -> dict[str, Any]:
    """VLLM's SamplingParams for this request; the project's serving policy fills what it leaves open.

    Raises:
        Invalid: more tokens are asked for than the model can hold.
    """
    limit = asked.max_tokens or min(target.serve.max_tokens, target.model_length)
    if limit > target.model_length:
        message = (
            f"max_tokens is {limit}; {target.name} holds {target.model_length} tokens of prompt and answer together"
        )
        raise Invalid(message, "invalid_value", "max_tokens")
    temperature = target.serve.temperature if asked.temperature is None else asked.temperature
    chosen: dict[str, Any] = {"max_tokens": limit, "temperature": 0.0 if asked.top_p == 0 else temperature}
    chosen.update(asked.penalties)
    if asked.top_p:  # 0 leaves only the most probable token, which is temperature 0
        chosen["top_p"] = asked.top_p
    if asked.stop:
        chosen["stop"] = list(asked.stop)
    if asked.seed is not None:
        chosen["seed"] = asked.seed
    return chosen | ({"lora_name": target.lora} if target.lora else {})
