"""Turns tokens into text deltas: whole characters only, and nothing of a stop string.

The two offsets of Detokenizer follow vLLM's and text-generation-inference's incremental detokenisation: a token's text
depends on those before it, so a window is decoded with and without the new tokens and the difference is the news.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.lm.tokens import CONTEXT

BROKEN = "\ufffd"  # what a decoder writes for bytes that are not (yet) a character
LONGEST_BROKEN = 3  # bytes of the longest unfinished UTF-8 sequence, each of which may be decoded as BROKEN


@dataclass(slots=True)
class Detokenizer:
    """Decodes a growing list of tokens; `tokens` begins with the tail of the prompt."""

    decode: Callable[[Sequence[int]], str]
    tokens: list[int]
    start: int = 0  # of the window
    read: int = field(default=-1)  # tokens whose text is out in full
    shown: int = 0  # characters out of the tokens behind those

    def __post_init__(self) -> None:
        self.tokens = self.tokens[-CONTEXT:]
        self.read = len(self.tokens)

    def push(self, token: int) -> str:
        """Returns the text that is certain now: nothing of a character that is not finished."""
        self.tokens.append(token)
        return self._advance(wait=True)

    def flush(self) -> str:
        """Returns what was held back, with U+FFFD for a character that was never finished."""
        return self._advance(wait=False)

    def _advance(self, *, wait: bool) -> str:
        before, whole = self.decode(self.tokens[self.start : self.read]), self.decode(self.tokens[self.start :])
        if wait and whole.endswith(BROKEN) and not whole.startswith(before):
            return ""  # bytes in a row are decoded as one: an unfinished character breaks the finished one before it
        news = whole[len(before) :]
        hold = min(len(news) - len(news.rstrip(BROKEN)), LONGEST_BROKEN) if wait else 0
        certain = news[: len(news) - hold]
        out = certain[self.shown :]
        if hold:
            self.shown = len(certain)
        else:
            self.start, self.read, self.shown = self.read, len(self.tokens), 0
        return out


def scan(text: str, stops: Sequence[str]) -> tuple[str, str, str | None]:
    """Splits text into (what may be shown, what must wait, the stop string met or None).

    Of several stop strings the one that begins first ends the text. What waits is the longest tail that may still
    become a stop string.
    """
    found = min(((at, stop) for stop in stops if (at := text.find(stop)) >= 0), default=None)
    if found:
        return text[: found[0]], "", found[1]
    hold = max((overlap(text, stop) for stop in stops), default=0)
    return text[: len(text) - hold], text[len(text) - hold :], None


def overlap(text: str, stop: str) -> int:
    """Returns the length of the longest proper prefix of `stop` that `text` ends with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
