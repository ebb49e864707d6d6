"""What can be wrong with a base model's files or with a text for it.

LanguageModelError
|- BaseNotFound       neither the catalogue, nor a directory, nor a hub has the base
|- HubUnavailable     the hub does not answer, or with an error of its own: nobody knows whether it has the base
|- BaseInvalid        the files are there, but no model or tokenizer comes of them
|- PromptInvalid      a project's prompt is no template that is taken; `key` says where in it
`- TextRefused        this text cannot be put before the model; `reason` is a stable word
   |- TemplateRefused    no_chat_template | template_refused
   |- MissingVariable    missing_variable: the prompt's template has a variable without a default, and nobody gave a value
   |- PromptTooLong      prompt_too_long: the variables' values make the system prompt longer than is taken
   `- ControlTokens      control_tokens: text that reads like a turn's boundary and cannot be told from one
"""

from collections.abc import Sequence
from typing import Literal

Reason = Literal["no_chat_template", "template_refused", "missing_variable", "prompt_too_long", "control_tokens"]


class LanguageModelError(ValueError):
    """Base of the tree; the message says what was wrong, where, and what to do."""


class BaseNotFound(LanguageModelError):
    """The base is nowhere to be had."""


class HubUnavailable(LanguageModelError):
    """The hub of base models does not answer, or answers with an error of its own."""


class BaseInvalid(LanguageModelError):
    """The files are no model that can be used here."""


class PromptInvalid(LanguageModelError):
    """The prompt is no template that is taken; `key` is the place under `prompt`, `line` that of its text, from 1."""

    def __init__(self, key: tuple[str, ...], why: str, line: int | None = None) -> None:
        super().__init__(f"prompt.{'.'.join(key)}: {f'line {line}: ' if line else ''}{why}")
        self.key = key
        self.why = why
        self.line = line


class TextRefused(LanguageModelError):
    """A text that cannot be put before the model."""

    reason: Reason


class TemplateRefused(TextRefused):
    """The chat template is absent, broken, or refuses these messages."""

    def __init__(self, message: str, reason: Reason = "template_refused") -> None:
        super().__init__(message)
        self.reason = reason


class MissingVariable(TextRefused):
    """Variables of the prompt have neither a value nor a default."""

    reason = "missing_variable"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"the prompt needs the variable{'s' if len(names) > 1 else ''} {', '.join(names)}; give a value"
        )
        self.names = tuple(names)


class PromptTooLong(TextRefused):
    """The system prompt is too long with these variables."""

    reason = "prompt_too_long"


class ControlTokens(TextRefused):
    """A text holds a control token that this tokenizer cannot keep as text."""

    reason = "control_tokens"
