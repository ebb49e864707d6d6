"""A request as a teacher's OpenAI-compatible endpoint takes it. Knows no connection.

Source: https://platform.openai.com/docs/api-reference/chat/create and .../completions/create.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

from contracts.teacher import Teacher
from services.lm.errors import PromptTooLong
from services.lm.prompt_template import render_prompt
from services.serving.domain.answers import OfferedTools, Usage
from services.serving.domain.asked import Asked
from services.serving.domain.errors import Invalid
from services.serving.domain.routing import Target
from services.serving.domain.sampling import with_project_prompt

CHARACTERS = 4.0
"""Of a token, where a teacher does not say how many it counted."""
_OPENAIS = ("", "response_format", "text.format")


def path(asked: Asked) -> str:
    """Of the endpoint, behind the teacher's URL; a response is a chat."""
    return "/completions" if asked.endpoint == "completions" else "/chat/completions"


def unfit(asked: Asked) -> Invalid | None:
    """Why a teacher cannot be asked this: it wants the base's own tokens, or what other endpoints do not offer."""
    name = next(
        (
            name
            for name, given in (
                ("prompt", bool(asked.token_ids) or any(not isinstance(p, str) for p in asked.prompts)),
                ("echo", asked.echo),
                ("logit_bias", bool(asked.logit_bias)),
                ("logprobs", asked.logprobs is not None),
                (asked.structured_by, asked.structured_by not in _OPENAIS),
                *((name, True) for name in asked.extras),
            )
            if given
        ),
        None,
    )
    if name is None:
        return None
    said = "token ids are the base's own" if name == "prompt" else "it is not offered by the project's teacher"
    return Invalid(f"{name}: {said}; leave it out, or ask a version or the base by name", "teacher_cannot", name)


def tools_of(asked: Asked) -> OfferedTools | None:
    """How the answer is read for calls: in Hermes' form, in which `TeacherReader` writes them."""
    names = frozenset(tool["function"]["name"] for tool in asked.tools)
    return OfferedTools("hermes", names, asked.parallel) if names else None


def body(asked: Asked, target: Target, teacher: Teacher, limit: int) -> dict[str, Any]:
    """The body of the request, a stream always: what there is of an answer at a deadline is told from what came.

    Raises:
        Invalid: the prompt is too long with these variables.
    """
    said = {"prompt": asked.prompt or ""} if asked.messages is None else {"messages": _messages(asked, target)}
    temperature = target.serve.temperature if asked.temperature is None else asked.temperature
    optional: dict[str, Any] = {
        "temperature": temperature,
        "top_p": asked.top_p,
        "stop": list(asked.stop) or None,
        "seed": asked.seed,
        **asked.penalties,
        "stream_options": {"include_usage": True},
        **_tools(asked),
        "response_format": asked.parameters.get("response_format") if asked.structured_by else None,
    }
    kept = {name: value for name, value in optional.items() if value is not None and name not in teacher.leave_out}
    return {"model": teacher.model, **said, "stream": True, teacher.length_parameter: limit, **kept}


def _messages(asked: Asked, target: Target) -> list[dict[str, Any]]:
    given = asked.wanted_prompt.variables if asked.wanted_prompt else {}
    try:
        return list(with_project_prompt(render_prompt(target.prompt, given), asked.messages or ()))
    except PromptTooLong as error:
        raise Invalid(str(error)[:500], "invalid_value", "prompt.variables") from error


def _tools(asked: Asked) -> dict[str, Any]:
    """The tools on offer as the client gave them, and which must be called: those alone where it must be one of several."""
    if not asked.tools:
        return {}
    given = {tool["function"]["name"]: tool for tool in cast(list[Any], asked.parameters.get("tools", ()))}
    tools = [given.get(tool["function"]["name"], tool) for tool in asked.tools]
    if asked.forced:
        tools = [tool for tool in tools if tool["function"]["name"] in asked.forced]
    one: Mapping[str, Any] = {"type": "function", "function": {"name": asked.forced[0]}} if asked.forced else {}
    choice: Any = None if not asked.forced else one if len(asked.forced) == 1 else "required"
    return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": None if asked.parallel else False}


def characters(asked: Asked, target: Target) -> int:
    """Of the prompt, roughly: that is what its reading costs."""
    turns = asked.messages or ()
    return len(asked.prompt or "") + len(target.prompt.system or "") + sum(len(str(turn["content"])) for turn in turns)


def estimated(asked: Asked, target: Target, answer: str) -> Usage:
    """Tokens of a request and its answer where nobody counted them: a quarter of the characters."""
    return Usage(math.ceil(characters(asked, target) / CHARACTERS), math.ceil(len(answer) / CHARACTERS))
