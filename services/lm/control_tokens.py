"""Control tokens of a tokenizer, read from its files, and their marks in what people wrote.

A control token that stands in a message is text: it is wrapped in two private-use characters before the template is
rendered, so that it can be told from those that the template writes (transformers.utils.chat_template_utils,
mark_control_tokens and encode_marked_chat). Reads JSON alone: the gateway holds no tokenizer.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers.utils.chat_template_utils import mark_control_tokens

from services.lm.errors import ControlTokens

MARKS = ("\U000f0000", "\U000f0001")
"""What mark_control_tokens writes before and after a control token."""
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_ADDED = re.compile(r'"added_tokens"\s*:\s*(?=\[)')
_HEAD = 1 << 16
"""Bytes of tokenizer.json to look at first."""
_MARKUP = re.compile(r"<[|\uff5c].+[|\uff5c]>")  # with DeepSeek's full-width bars too

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ControlVocabulary:
    """The tokens that structure a conversation.

    `special` are those that the tokenizer calls special, and those that look like <|this|> and that the template writes around
    turns (DeepSeek's, which are not called so). `own` are other added tokens that stand in the template, or look like <|this|>:
    a model writes such words itself (<think>, <tool_call>), so in an assistant's turn they stay tokens. Added tokens that are
    neither (Gemma's runs of blanks, <table>) are words like others.
    """

    special: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    boundary: str = ""
    """Where a template lets the assistant begin without any of these: that plain text. Nothing tells it from a user's."""

    def mark(self, messages: Sequence[Message]) -> tuple[list[dict[str, Any]], bool]:
        """The messages with every control token in them marked, and whether there was any.

        Raises:
            ControlTokens: a message holds a control token and, already, a character of the marks; or it holds `boundary`.
        """
        if self.boundary and any(self.boundary in text for message in messages for text in _others_texts(message)):
            raise ControlTokens(
                f"the text holds {self.boundary!r}, which this base's chat template writes as plain text where the assistant "
                "begins to speak; nothing would tell the two apart"
            )
        if not any(self._held(message) for message in messages):
            return [dict(message) for message in messages], False
        if any(_holds_mark(value) for message in messages for value in message.values()):
            raise ControlTokens("the text holds a control token and the character U+F0000 or U+F0001; remove either")
        return [self._marked(message) for message in messages], True

    def structural(self, rendered: str) -> frozenset[str]:
        """Those of `own` that a template wrote into a conversation of plain words, where nobody thought or called a tool."""
        return frozenset(word for word in self.own if word in rendered and _MARKUP.fullmatch(word))

    def mark_text(self, text: str) -> tuple[str, bool]:
        """As `mark`, for a text that no template is around."""
        (message,), marked = self.mark([{"role": "user", "content": text}])
        return message["content"], marked

    def _held(self, message: Message) -> list[str]:
        words = self.special if message.get("role") == "assistant" else self.special | self.own
        return [word for word in words if any(word in text for text in _texts(message))]

    def _marked(self, message: Message) -> dict[str, Any]:
        held = self._held(message)
        if not held:
            return dict(message)
        longest_first = "|".join(re.escape(word) for word in sorted(held, key=lambda w: (-len(w), w)))
        return mark_control_tokens(dict(message), re.compile(longest_first))


def read_control_vocabulary(directory: Path, template: str | None) -> ControlVocabulary:
    """The control tokens that a tokenizer's directory names: tokenizer.json, tokenizer_config.json."""
    config = read_json(directory / "tokenizer_config.json")
    added = {**dict(_added_in_config(config)), **dict(_added_in_tokenizer(directory / "tokenizer.json"))}
    special = {text for text, is_special in added.items() if is_special} | set(special_tokens(config).values())
    others = {text for text in added if text.strip()} - special
    own = {text for text in others if text in (template or "") or _MARKUP.fullmatch(text)}
    return ControlVocabulary(frozenset(special), frozenset(own))


def special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens of tokenizer_config.json by name; a token is its text or an AddedToken object with `content`."""
    found = {name: config.get(name) for name in SPECIAL_TOKENS}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in found.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str) and text}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is no such file or it holds none."""
    value: Any = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _added_in_config(config: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Older tokenizers list them under added_tokens_decoder, and more special ones by their text."""
    listed: Any = config.get("added_tokens_decoder")
    for token in listed.values() if isinstance(listed, dict) else ():
        if isinstance(token, dict) and isinstance(token.get("content"), str):
            yield token["content"], bool(token.get("special"))
    for name in ("additional_special_tokens", "extra_special_tokens"):
        more: Any = config.get(name) or ()
        for token in more.values() if isinstance(more, dict) else more:
            text = token.get("content") if isinstance(token, dict) else token
            if isinstance(text, str) and text:
                yield text, True


def _added_in_tokenizer(path: Path) -> Iterator[tuple[str, bool]]:
    """The list `added_tokens`. It stands before the vocabulary, which is not read: it takes 100 MB for Llama 3's."""
    size = _HEAD
    while path.is_file():
        with path.open("rb") as file:
            head = file.read(size)
        text = head.decode("utf-8", "ignore")
        if at := _ADDED.search(text):
            with suppress(ValueError):
                tokens: list[dict[str, Any]] = json.JSONDecoder().raw_decode(text, at.end())[0]
                yield from ((str(token["content"]), bool(token.get("special"))) for token in tokens)
                return
        if len(head) < size:
            return
        size *= 4


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in cast(Mapping[str, Any], value).values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in cast(Sequence[Any], value):
            yield from _texts(item)


def _others_texts(message: Message) -> Iterator[str]:
    return _texts(message) if message.get("role") != "assistant" else iter(())


def _holds_mark(value: Any) -> bool:
    return any(mark in text for text in _texts(value) for mark in MARKS)
