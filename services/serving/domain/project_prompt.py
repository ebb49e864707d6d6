"""Which of a project's prompts stands before a request, and what of it the request lacks. Renders nothing, knows no store.

Source of the parameter: https://platform.openai.com/docs/api-reference/responses/create#responses-create-prompt; chat completions
take it too, which OpenAI's do not.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from contracts.prompt import MAX_TEXT, MAX_VARIABLES, Prompt
from services.serving.domain.asked import Asked, WantedPrompt
from services.serving.domain.errors import Invalid, PromptNotFound
from services.serving.domain.part import Part
from services.serving.domain.routing import Target, project_of


class InputText(BaseModel):
    """A variable's value in the form of an input item, for the OpenAPI document."""

    type: Literal["input_text"]
    text: str


def _text(value: Any) -> Any:
    match value:
        case {"type": "input_text", "text": text}:
            return text
        case {}:
            raise ValueError("images and files are not offered as variables; give a text")
        case _:
            return value


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else value


Value = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | InputText), Field(max_length=MAX_TEXT)]


class PromptParam(Part):
    """The project's prompt: `id` and `name` are the project's name; without a version it is the one that is served."""

    id: str | None = Field(default=None, max_length=200)
    name: str | None = Field(default=None, max_length=200)
    version: Annotated[
        Annotated[int, Field(ge=1, le=2**31 - 1)] | None,
        BeforeValidator(_number, json_schema_input_type=int | str | None),
    ] = None
    variables: dict[str, Value] | None = Field(default=None, max_length=MAX_VARIABLES)


def wanted_prompt(given: PromptParam | None, model: str) -> WantedPrompt | None:
    """What a request says of the prompt.

    Raises:
        PromptNotFound: it names another project's.
    """
    if given is None:
        return None
    for name in (given.id, given.name):
        if name is not None and name != project_of(model):
            said = f"The prompt {name[:100]!r} does not exist for {model[:100]!r}: a project's prompt has the project's name."
            raise PromptNotFound(said, "prompt.id" if given.id else "prompt.name")
    return WantedPrompt(given.version, given.variables or {})


def apply_prompt(asked: Asked, target: Target, found: Prompt | None) -> tuple[Asked, Target]:
    """The request with the prompt's tools where it brings none, and the target with the prompt that stands before it.

    `found` is the prompt of the version that the request names, None where it names none. A request with a system prompt of its
    own, or without turns, has none of the project's before it.

    Raises:
        Invalid: naming the variable that is not given, or that the prompt does not have.
    """
    messages = asked.messages
    if messages is None:
        return asked, replace(target, prompt=Prompt(), prompt_version=None)
    wanted = asked.wanted_prompt
    if asked.tools == () and not asked.chose_tools:
        offered = (found or target.prompt).tools
        asked = replace(asked, tools=tuple(tool.body() for tool in offered))
    if messages[0]["role"] == "system":
        if wanted is not None:
            said = "the project's prompt stands before conversations without system message and instructions; leave one out"
            raise Invalid(f"prompt: {said}", "invalid_value", "prompt")
        return asked, replace(target, prompt=Prompt(), prompt_version=None)
    if wanted is not None and wanted.version is not None and found is not None:
        target = replace(target, prompt=found, prompt_version=wanted.version)
    _check_variables(target.prompt, wanted.variables if wanted else {})
    return asked, target


def _check_variables(prompt: Prompt, given: Any) -> None:
    for name in given:
        if name not in prompt.variables:
            has = f"it has {', '.join(sorted(prompt.variables))}" if prompt.variables else "it has none"
            said = f"prompt.variables: {name[:100]!r} is no variable of the prompt; {has}"
            raise Invalid(said, "invalid_value", f"prompt.variables.{name[:100]}")
    for name in prompt.required:
        if name not in given:
            where = f"prompt.variables.{name}"
            said = f"{where}: the prompt needs a value for it; give prompt: {{variables: {{{name}: ...}}}}"
            raise Invalid(said, "missing_required_parameter", where)
