"""Chat templates rendered as transformers' apply_chat_template does, in a sandbox; reads no file, knows no tokenizer.

Source: transformers 5.23, utils/chat_template_utils.py (environment, filters, globals) and
tokenization_utils_base.apply_chat_template (special tokens as variables, absent content dropped).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
MAX_RENDERED = 2_000_000
"""Characters: a template that repeats its input without end is refused, not sent."""


class TemplateRefused(ValueError):
    """The template is broken, absent, or refuses these messages; the message says which and why."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A compiled template with the tokenizer's special tokens."""

    compiled: jinja2.Template
    tokens: Mapping[str, str]

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt's text for `messages`, ending where the assistant begins to speak.

        Raises:
            TemplateRefused: the template raises for these messages (roles out of order, say).
        """
        turns = [{k: v for k, v in m.items() if v is not None} for m in messages]
        try:
            text = self.compiled.render(
                messages=turns, tools=None, documents=None, add_generation_prompt=True, **self.tokens
            )
        except Exception as error:  # template code is the base's: whatever it raises is about these messages
            raise TemplateRefused(f"the model's chat template refuses these messages: {error}") from error
        if len(text) > MAX_RENDERED:
            raise TemplateRefused(f"the chat template makes {len(text)} characters; at most {MAX_RENDERED} are sent")
        return text


def compile_template(config: Mapping[str, Any], template: str | None = None) -> ChatTemplate:
    """The template of a base model: `template` (chat_template.jinja) or the one in tokenizer_config.json.

    Raises:
        TemplateRefused: there is none, or it is not valid Jinja.
    """
    source = template if template is not None else _default_template(config.get("chat_template"))
    if source is None:
        raise TemplateRefused("the base has no chat template: neither chat_template.jinja nor tokenizer_config.json")
    try:
        compiled = _environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateRefused(f"the chat template is no valid Jinja, line {error.lineno}: {error.message}") from error
    return ChatTemplate(compiled, _special_tokens(config))


def _default_template(value: Any) -> str | None:
    """tokenizer_config.json holds one template, or a list of named ones of which 'default' counts."""
    if isinstance(value, list):
        return next((t["template"] for t in value if t.get("name") == "default"), None)
    return value if isinstance(value, str) else None


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by name; a token is its text or an AddedToken object with `content`."""
    found = {name: config.get(name) for name in SPECIAL_TOKENS}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in found.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


class _Generation(jinja2.ext.Extension):
    """The tag `{% generation %}`: marks assistant turns for training; transparent when prompting."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node | list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(jinja2.utils.Namespace):
    """A namespace without underscore names, which reach into Python."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a template may not set {name!r}")
        super().__setitem__(name, value)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    filters: dict[str, Callable[..., Any]] = environment.filters
    filters["tojson"] = _tojson
    names: dict[str, Any] = environment.globals
    names.update(raise_exception=_raise_exception, strftime_now=_strftime_now, namespace=_Namespace, dict=dict)
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)  # noqa: DTZ005 - templates mean local time, as in transformers
