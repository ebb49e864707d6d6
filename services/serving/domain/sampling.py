"""A request as the text and the sampling parameters that Triton's `vllm` backend takes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from contracts.chat import with_system
from contracts.project import Prompt
from contracts.records import Message
from services.lm.errors import PromptTooLong, TextRefused
from services.lm.prompt_template import render_prompt
from services.lm.template import ChatTemplate, Rendered
from services.lm.tool_format import MARKERS, ToolFormat, with_tools
from services.serving.domain.answers import OfferedTools
from services.serving.domain.asked import Asked
from services.serving.domain.errors import Invalid
from services.serving.domain.routing import Target
from services.serving.domain.structured import call_or_answer, call_schema, opening


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
        format = target.template.tool_format
        given = asked.wanted_prompt.variables if asked.wanted_prompt else {}
        turns, tools = with_tools(
            format, with_project_prompt(render_prompt(target.prompt, given), asked.messages), asked.tools
        )
        rendered = target.template.render(turns, tools=tools)
        return replace(rendered, text=rendered.text + begun(asked, target))
    except PromptTooLong as error:
        raise Invalid(str(error)[:500], "invalid_value", "prompt.variables") from error
    except TextRefused as error:
        turns = "input" if asked.endpoint == "responses" else "messages"
        raise Invalid(str(error)[:500], "invalid_value", turns) from error


def offered_tools(asked: Asked, target: Target) -> OfferedTools | None:
    """How the answer is read for calls; None where nothing may be called."""
    if not asked.tools or target.template is None:
        return None
    names = frozenset(tool["function"]["name"] for tool in asked.tools)
    return OfferedTools(call_format(target.template), names, asked.parallel)


def call_format(template: ChatTemplate) -> ToolFormat:
    """The form in which calls are asked for and read."""
    return template.tool_format or "hermes"


def begun(asked: Asked, target: Target) -> str:
    """The beginning of the answer that the model is given: a forced call's marker."""
    return opening(call_format(target.template)) if asked.forced and target.template else ""


def structure(asked: Asked, target: Target) -> tuple[str, Mapping[str, Any]] | None:
    """The parameter by which the answer has to look like something, and what: vLLM's structured_outputs.

    Raises:
        Invalid: the model's calls cannot be held to a format beside others.
    """
    if not asked.tools or target.template is None or (asked.structured is None and not asked.forced):
        return None if asked.structured is None else (asked.structured_by, asked.structured)
    format = call_format(target.template)
    callable = [tool for tool in asked.tools if not asked.forced or tool["function"]["name"] in asked.forced]
    calls = call_schema(format, callable, strict=asked.strict, parallel=asked.parallel)
    if asked.forced:
        return "tools", {"json": calls}
    structured = asked.structured or {}
    if "json" not in structured and "json_object" not in structured:
        said = "a choice, expression or grammar leaves no room for calls; leave tools out"
        raise Invalid(f"{asked.structured_by}: {said}", "invalid_value", asked.structured_by)
    answer: Mapping[str, Any] = structured.get("json", {"type": "object"})
    return asked.structured_by, {"grammar": call_or_answer(format, answer, calls, asked.parallel, asked.structured_by)}


def hides_calls(template: ChatTemplate) -> bool:
    """Whether a call's marker is a special token, which a text leaves out: Llama 3's and Mistral's are."""
    return template.tool_format is not None and MARKERS[template.tool_format] in template.vocabulary.special


def with_project_prompt(prompt: Prompt, messages: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """`messages` behind the project's system prompt and examples, unless they bring a system prompt of their own."""
    first = Message(role=messages[0]["role"], content="")
    added = with_system(prompt, (first,))[:-1]
    return (*({"role": m.role, "content": m.content} for m in added), *messages)


def token_limit(asked: Asked, target: Target) -> int:
    """The most tokens that the answer may have; the project's serving policy says where the request does not.

    More tokens than the model holds are as many as it holds: an answer ends there with finish_reason "length". No engine
    makes none, so of an echo alone it makes one that nobody is told of.
    """
    wanted = target.serve.max_tokens if asked.max_tokens is None else asked.max_tokens
    return max(1, min(wanted, target.model_length))


def sampling_parameters(asked: Asked, target: Target) -> dict[str, Any]:
    """VLLM's SamplingParams for this request; the project's serving policy fills what it leaves open."""
    limit = token_limit(asked, target)
    temperature = target.serve.temperature if asked.temperature is None else asked.temperature
    chosen: dict[str, Any] = {"max_tokens": limit, "temperature": 0.0 if asked.top_p == 0 else temperature}
    chosen.update(asked.penalties)
    chosen.update(asked.extras)
    if asked.logit_bias:
        chosen["logit_bias"] = dict(asked.logit_bias)
    if asked.logprobs is not None:
        chosen["logprobs"] = asked.logprobs
    if asked.echo and (asked.logprobs is not None or asked.token_ids):  # the text of tokens is told with them
        chosen["prompt_logprobs"] = asked.logprobs or 0
    if "min_tokens" in chosen:
        chosen["min_tokens"] = min(chosen["min_tokens"], limit)
    if asked.tools and target.template and hides_calls(target.template):
        chosen["skip_special_tokens"] = False
    if asked.top_p:  # 0 leaves only the most probable token, which is temperature 0
        chosen["top_p"] = asked.top_p
    if asked.stop:
        chosen["stop"] = list(asked.stop)
    if asked.seed is not None:
        chosen["seed"] = asked.seed
    if (required := structure(asked, target)) is not None:
        chosen["structured_outputs"] = json.dumps(required[1])
    return chosen | ({"lora_name": target.lora} if target.lora else {})
