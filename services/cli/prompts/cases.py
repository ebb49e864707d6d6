"""A file of cases for `noria prompt test`: questions, and what their answers have to be. Asks nobody."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from contracts.sections import Section
from services.cli.prompts import checks
from services.cli.yaml_file import Kind, read

MOST = 5_000
"""Cases of a file."""


def _listed(raw: Any) -> Any:
    """One value is a list of one."""
    return raw if isinstance(raw, list | tuple) else (raw,)


def _pattern(pattern: str) -> str:
    if fault := checks.pattern_fault(pattern):
        raise ValueError(f"it is no pattern of RE2 ({fault}); https://github.com/google/re2/wiki/Syntax tells what is")
    return pattern


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    if fault := checks.schema_fault(schema):
        raise ValueError(f"checks.json_schema cannot be used: {fault}")
    return schema


def _no_judge(raw: Any) -> Any:
    raise ValueError("judges are not offered yet; say what must be there by contains, equals, matches or json_schema")


Text = Annotated[str, Field(min_length=1, max_length=100_000)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed)]
Patterns = Annotated[tuple[Annotated[Text, AfterValidator(_pattern)], ...], BeforeValidator(_listed)]
Variables = dict[str, str]


class Turn(Section):
    """A turn of a conversation that a case begins with."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=1_000_000)


class Checks(Section):
    """What an answer has to be; all of it must hold. Of texts and patterns one or a list."""

    contains: Texts = ()
    not_contains: Texts = ()
    equals: str | None = None
    matches: Patterns = ()
    json_schema: Annotated[dict[str, Any], AfterValidator(_schema)] | None = None
    max_tokens: int | None = Field(default=None, ge=0)
    max_characters: int | None = Field(default=None, ge=0)
    max_seconds: float | None = Field(default=None, gt=0)
    judge: Annotated[Any, BeforeValidator(_no_judge)] = None

    def listed(self) -> list[tuple[str, Any]]:
        """Each check by name and value, in the order of the file's keys."""
        given = ((name, getattr(self, name)) for name in type(self).model_fields if name in self.model_fields_set)
        return [(name, one) for name, value in given for one in (value if isinstance(value, tuple) else (value,))]


class Case(Section):
    """A question, or the turns before an answer, and the checks of what is answered."""

    name: Text | None = None
    question: Text | None = None
    messages: tuple[Turn, ...] | None = Field(default=None, min_length=1, max_length=1000)
    variables: Variables = Field(default_factory=dict[str, str])
    max_tokens: int | None = Field(default=None, ge=1)
    checks: Checks

    @model_validator(mode="after")
    def _asks_one_thing_and_checks_it(self) -> "Case":
        if (self.question is None) == (self.messages is None):
            raise ValueError("a case has either question or messages; give one of them")
        if self.messages and self.messages[-1].role != "user":
            raise ValueError("messages end with the user's turn, which is answered; add it")
        if not self.checks.listed():
            raise ValueError(f"checks are empty; give one of {', '.join(checks.CHECKS)}")
        return self

    @property
    def turns(self) -> list[dict[str, str]]:
        """The conversation, as OpenAI's API takes it."""
        asked = self.messages or (Turn(role="user", content=self.question or ""),)
        return [{"role": turn.role, "content": turn.content} for turn in asked]

    @property
    def title(self) -> str:
        """Its name, or the beginning of what is asked."""
        return self.name or " ".join(self.turns[-1]["content"].split())[:60]


class Cases(Section):
    """A file of cases. `version`, `variables` and `max_tokens` hold for cases that do not say."""

    version: int | None = Field(default=None, ge=1)
    variables: Variables = Field(default_factory=dict[str, str])
    max_tokens: int | None = Field(default=None, ge=1)
    cases: tuple[Case, ...] = Field(min_length=1, max_length=MOST)


CASES = Kind(Cases, "a file of cases", "the file", "cases:")


def parse(raw: bytes) -> Cases:
    """The cases of a YAML file's bytes. Raises FileInvalid."""
    return read(raw, CASES, Cases)
