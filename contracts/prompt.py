"""A project's prompt: what stands around the user's turns. A version of it is told by the digest of its content.

Knows no template language: services/lm/prompt_template.py renders `system` where it is one.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from contracts.canonical import canonical, digest
from contracts.records import Content
from contracts.sections import Section
from contracts.turns import MAX_DEPTH, nested_deeper
from contracts.types import JsonObject, Sha256

MAX_TEXT = 20_000
"""Characters of a system prompt, of a variable's value, of a turn of an example."""
MAX_EXAMPLES = 32
MAX_VARIABLES = 64
MAX_TOOLS = 128

Text = Annotated[Content, StringConstraints(max_length=MAX_TEXT)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    if nested_deeper(schema, MAX_DEPTH):
        raise ValueError(f"is nested deeper than {MAX_DEPTH}")
    if schema.get("type", "object") != "object":
        raise ValueError(f"a function's parameters are of type 'object', not {schema['type']!r}"[:200])
    return schema


def _absent(value: Any) -> bool:
    return value is None


def _empty(value: Any) -> bool:
    return not value


class Example(Section):
    """One exchange that shows the model what is wanted."""

    user: Text = Field(min_length=1)
    assistant: Text = Field(min_length=1)


class Function(Section):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: Text | None = Field(default=None, exclude_if=_absent)
    parameters: Annotated[JsonObject, AfterValidator(_bounded)] | None = Field(default=None, exclude_if=_absent)


class Tool(Section):
    """A tool in OpenAI's form (https://platform.openai.com/docs/guides/function-calling)."""

    type: Literal["function"] = "function"
    function: Function

    def body(self) -> dict[str, Any]:
        """OpenAI's object; chat templates read a description and parameters, so both are there."""
        given = self.function.model_dump(mode="json")
        empty = {"description": "", "parameters": {"type": "object", "properties": {}}}
        return {"type": "function", "function": {"name": self.function.name, **empty, **given}}


class Prompt(Section):
    """What stands around the user's turns, applied by name at training and serving, never baked into records.

    What is not given is not written, so that a project without it keeps its revision.
    """

    system: str | None = Field(
        default=None,
        max_length=MAX_TEXT,
        description="The system prompt: a template where `variables` are declared, else the text as it is",
    )
    variables: dict[VariableName, Text | None] = Field(
        default_factory=dict[str, str | None],
        max_length=MAX_VARIABLES,
        exclude_if=_empty,
        description="Names that `system` uses -> the value where a request gives none; null: it has to give one",
    )
    examples: tuple[Example, ...] = Field(
        default=(),
        max_length=MAX_EXAMPLES,
        exclude_if=_empty,
        description="Exchanges between the system prompt and the conversation",
    )
    tools: tuple[Tool, ...] = Field(
        default=(),
        max_length=MAX_TOOLS,
        exclude_if=_empty,
        description="Offered to conversations that bring no tools of their own",
    )

    @property
    def required(self) -> tuple[str, ...]:
        """The variables that have no default."""
        return tuple(name for name, default in self.variables.items() if default is None)

    @model_validator(mode="after")
    def _variables_have_a_template(self) -> "Prompt":
        if self.variables and self.system is None:
            raise ValueError(
                "variables are for the template `system`, which is not there; write one, or leave them out"
            )
        names = [tool.function.name for tool in self.tools]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two tools have the name {twice!r}; give each its own")
        return self


def prompt_digest(prompt: Prompt) -> Sha256:
    """SHA-256 (hex) of the prompt's canonical JSON: equal prompts are one version."""
    return digest(canonical(prompt.model_dump(mode="json")))


def values_for(prompt: Prompt, given: Mapping[str, str]) -> dict[str, str | None]:
    """The value of each declared variable: as `given`, else its default; None where neither is there."""
    return {name: given.get(name, default) for name, default in prompt.variables.items()}
