"""Whether an answer can be held to a grammar, found out without a model: it is compiled and an answer begun, byte by byte.

What no answer fits and what takes more work than llguidance does for a step shows only so; the work does not hang on
the model's tokens, but for the special ones that a grammar names. Limits are llguidance's own, as in the backend.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from services.serving.triton.grammars import GrammarRefused, grammar, reason

STEPS = 48
"""Bytes of the answer that is begun: into the first value of the first object, whose openers are taken first."""
_OPENERS = b'{["'
_OF_A_MODEL = ("special token", "Token range")
"""Begins what llguidance says of tokens that the model may have: the backend knows them."""


def check_grammar(wanted: Mapping[str, Any]) -> None:
    """Takes up to a second of work for the largest schemas, without the interpreter's lock.

    Raises:
        GrammarRefused: what is wanted (vLLM's structured_outputs) cannot be enforced, and why.
    """
    from llguidance import LLMatcher

    matcher: Any = LLMatcher(_byte_tokenizer(), grammar(wanted), log_level=0)
    if matcher.is_error() and any(words in matcher.get_error() for words in _OF_A_MODEL):
        return
    for _ in range(STEPS):
        allowed = [] if matcher.is_error() else _allowed(matcher)
        if matcher.is_error():
            raise GrammarRefused(f"the {next(iter(wanted))} cannot be enforced: {reason(matcher.get_error())}")
        if not allowed:  # but the end
            return
        matcher.consume_token(next((byte for byte in _OPENERS if byte in allowed), allowed[0]))


def _allowed(matcher: Any) -> list[int]:
    """The bytes that may come next, those that are no blanks first."""
    bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
    found: list[int] = np.flatnonzero(bits[:256]).tolist()
    return sorted(found, key=lambda byte: byte <= 0x20)


@cache
def _byte_tokenizer() -> Any:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")
