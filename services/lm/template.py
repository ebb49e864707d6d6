"""A base model's chat template, rendered by transformers' own renderer without its tokenizers and without torch.

Source: transformers 5.23, utils/chat_template_utils.render_jinja_template (sandbox, filters, globals) and
tokenization_utils_base.apply_chat_template (special tokens as variables, absent content dropped).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

from services.lm.control_tokens import MARKS, ControlVocabulary, read_control_vocabulary, read_json, special_tokens
from services.lm.errors import ControlTokens, TemplateRefused
from services.lm.tool_format import ToolFormat, tool_format, with_tools

MAX_RENDERED = 2_000_000
"""Characters: a template that repeats its input without end is refused, not sent."""
ASKED, ANSWERED = "Question-7301", "Answer-8402"
"""Words to try a template with: none writes them itself."""
NO_VARIABLES: Mapping[str, Any] = MappingProxyType({})
_RESERVED = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template"}
)
"""Variables of a template that no conversation sets: they are the renderer's."""
TEMPLATE_FILES = ("chat_template.jinja", "tokenizer_config.json", "tokenizer.json")
"""What `read_template` reads of a model's directory."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text for the model.

    Where `marked`, control tokens that people wrote stand between control_tokens.MARKS in it. A `plain` text has no template
    around it: the tokenizer puts its BOS before it.
    """

    text: str
    marked: bool = False
    plain: bool = False


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template with the tokenizer's special tokens and control tokens."""

    source: str
    tokens: Mapping[str, str]
    vocabulary: ControlVocabulary
    tool_format: ToolFormat | None = None
    """How it writes calls of tools; None where it shows no tools, or writes calls in a way that nobody here reads."""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        answering: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] = NO_VARIABLES,
    ) -> Rendered:
        """The text of `messages`; where `answering`, it ends where the assistant begins to speak.

        `tools` are OpenAI's, for templates that have the variable (services/lm/tool_format.py); `variables` are further ones,
        as `enable_thinking`, that a conversation brings.

        Raises:
            TemplateRefused: the template raises for these messages (roles out of order, say).
            ControlTokens: a message cannot be told from the template's own control tokens.
        """
        said = [{k: v for k, v in m.items() if v is not None} for m in messages]
        self._check_names(said, tools)
        (offered, *turns), marked = self.vocabulary.mark([{"role": "system", "tools": list(tools)}, *said])
        own = {name: value for name, value in variables.items() if name not in _RESERVED}
        text = self._text(turns, answering, {**own, **self.tokens, "tools": offered["tools"] or None})
        return Rendered(text, marked and any(mark in text for mark in MARKS))

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] = NO_VARIABLES,
        *,
        answering: bool = True,
    ) -> Rendered:
        """As `render`, with OpenAI's turns and tools put into the form that this template takes.

        Raises:
            TemplateRefused, ControlTokens: as `render`; TemplateRefused too where a call's arguments are no JSON.
        """
        try:
            turns, offered = with_tools(self.tool_format, messages, tools)
        except (ValueError, KeyError) as error:
            raise TemplateRefused(f"a call of a tool cannot be written: {error!r}"[:300]) from error
        return self.render(turns, answering=answering, tools=offered, variables=variables)

    def _check_names(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> None:
        """Names of arguments and of a schema's properties are keys, which are not marked."""
        words = self.vocabulary.special | self.vocabulary.own
        names = [*_keys(list(tools)), *_keys([m.get("tool_calls") for m in messages])]
        if any(word in name for name in names for word in words):
            raise ControlTokens("the name of a tool's argument holds a control token")

    def _text(self, turns: list[dict[str, Any]], answering: bool, variables: Mapping[str, Any]) -> str:
        try:
            (text,), _ = render_jinja_template(
                [turns], chat_template=self.source, add_generation_prompt=answering, **variables
            )
        except Exception as error:  # template code is the base's: whatever it raises is about these messages
            raise TemplateRefused(f"the model's chat template refuses these messages: {error}"[:500]) from error
        if len(text) > MAX_RENDERED:
            raise TemplateRefused(f"the chat template makes {len(text)} characters; at most {MAX_RENDERED} are sent")
        return text


def compile_template(source: str, tokens: Mapping[str, str], vocabulary: ControlVocabulary) -> ChatTemplate:
    """The template of a text.

    Raises:
        TemplateRefused: it is not valid Jinja.
    """
    try:
        render_jinja_template([], chat_template=source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateRefused(f"the chat template is no valid Jinja, line {error.lineno}: {error.message}") from error
    template = ChatTemplate(source, tokens, vocabulary)
    text = _two_turns(template)
    structural = vocabulary.structural(text)
    special, own = vocabulary.special | structural, vocabulary.own - structural
    boundary = _plain_boundary(template, text)
    return replace(
        template,
        vocabulary=replace(vocabulary, special=special, own=own, boundary=boundary),
        tool_format=tool_format(template.render),
    )


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from map(str, cast(Mapping[Any, Any], value))
    if isinstance(value, Mapping | list):
        items = cast(Mapping[Any, Any], value).values() if isinstance(value, Mapping) else cast(list[Any], value)
        for item in items:
            yield from _keys(item)


def _two_turns(template: ChatTemplate) -> str:
    """A user's turn after an answered one, up to where the assistant begins to speak; nothing where that is refused."""
    asked = {"role": "user", "content": ASKED}
    for turns in ([asked, {"role": "assistant", "content": ANSWERED}, asked], [asked]):
        with suppress(TemplateRefused):
            return template.render(turns).text
    return ""


def _plain_boundary(template: ChatTemplate, text: str) -> str:
    """The text between a user's words and the assistant's where no control token stands in it; else nothing."""
    _, found, between = text.rpartition(ASKED)
    words = template.vocabulary.special | template.vocabulary.own
    return between.strip(" ") if found and between.strip() and not any(word in between for word in words) else ""


def read_template(directory: Path) -> ChatTemplate | None:
    """The template in a model's directory: chat_template.jinja, or the one in tokenizer_config.json; None without one.

    Raises:
        TemplateRefused: it is not valid Jinja.
    """
    config = read_json(directory / "tokenizer_config.json")
    own = directory / "chat_template.jinja"
    source = own.read_text("utf-8") if own.is_file() else _default_template(config.get("chat_template"))
    if source is None:
        return None
    return compile_template(source, special_tokens(config), read_control_vocabulary(directory, source))


def _default_template(value: Any) -> str | None:
    """tokenizer_config.json holds one template, or a list of named ones of which 'default' counts."""
    if isinstance(value, list):
        return next((t["template"] for t in value if t.get("name") == "default"), None)
    return value if isinstance(value, str) else None
