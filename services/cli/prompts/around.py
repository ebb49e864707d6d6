"""Which prompt stands around a question, and the request that asks it so. Asks nobody.

A prompt that the registry knows is named in the request, and the gateway renders it; one that is in a file alone is rendered
here, by the gateway's own function, and sent as turns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.chat import as_sent, with_system
from contracts.prompt import Prompt
from contracts.records import Message
from services.cli.errors import Usage
from services.lm.errors import TextRefused
from services.lm.prompt_template import render_prompt

Turns = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Around:
    """`prompt` of a file; else number `version` of the project's, and without one the prompt that is served."""

    project: str
    version: int | None = None
    prompt: Prompt | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further parameters of all requests, as max_tokens."""


def body(around: Around, model: str, turns: Turns, variables: Mapping[str, str]) -> dict[str, Any]:
    """A chat of OpenAI's API. Raises Usage, as `rendered`."""
    asked = {"model": model, **around.options}
    if around.prompt is not None:
        messages = rendered(around.prompt, turns, variables)
        tools = [tool.body() for tool in around.prompt.tools]
        return {**asked, "messages": messages, **({"tools": tools} if tools else {})}
    if around.version is None and not variables:
        return {**asked, "messages": list(turns)}
    named: dict[str, Any] = {"id": around.project}
    if around.version is not None:
        named["version"] = str(around.version)
    if variables:
        named["variables"] = dict(variables)
    return {**asked, "messages": list(turns), "prompt": named}


def rendered(prompt: Prompt, turns: Turns, variables: Mapping[str, str]) -> list[dict[str, Any]]:
    """The turns behind the prompt, as the model is shown them.

    Raises:
        Usage: a variable is missing, or is none of the prompt's; or there is no system prompt, so that the gateway would add one.
    """
    unknown = sorted(variables.keys() - prompt.variables.keys())
    if unknown:
        there = f"it has {', '.join(prompt.variables)}" if prompt.variables else "it has none"
        raise Usage("unknown_variable", f"the prompt has no variable {unknown[0]!r}; {there}")
    try:
        text = render_prompt(prompt, variables)
    except TextRefused as error:
        raise Usage("invalid_variables", str(error)) from error
    shown = with_system(text, tuple(Message.model_validate(turn) for turn in turns))
    if not shown or shown[0].role != "system":
        raise Usage("no_system_prompt", "the prompt has no system prompt; without one the served prompt would be used")
    return [as_sent(turn) for turn in shown]
