"""Normalised copies of texts, for comparing alone: what is learnt and evaluated is each text as it was sent."""

import re
import unicodedata
from typing import Any, cast

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
"""A run of letters and digits; where no spaces stand between words (Han, Kana) each character for itself."""
_ASCII_WORD = re.compile(r"[a-z0-9]+")
"""The same for lower-case ASCII, in a third of the time."""


def text(raw: str) -> str:
    """`raw` in NFC (Unicode Standard Annex 15), with line feeds, without white space around."""
    if "\r" in raw:
        raw = raw.replace("\r\n", "\n").replace("\r", "\n")
    return (raw if raw.isascii() else unicodedata.normalize("NFC", raw)).strip()


def texts(value: Any) -> Any:
    """A JSON value with every text in it normalised; keys stay."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [texts(item) for item in cast(list[Any], value)]
    if isinstance(value, dict):
        return {key: texts(item) for key, item in cast(dict[str, Any], value).items()}
    return value


def words(prompt: str) -> tuple[str, ...]:
    """The prompt's words without case, punctuation and spacing (NFKC, case folding); without any, its symbols."""
    if prompt.isascii():
        folded = prompt.lower()
        found = _ASCII_WORD.findall(folded)
    else:
        folded = unicodedata.normalize("NFKC", prompt).casefold()
        found = _WORD.findall(folded)
    return tuple(found) or tuple("".join(folded.split()))
