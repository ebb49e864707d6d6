"""Drops rows that are empty, too short or too long by the project's rules, in characters and in tokens of its base."""

from collections.abc import Iterable

import numpy as np

from contracts.steps import Length
from services.prep.domain.frame import Bools, CountTokens, Dropped, Frame, Step

AT_ONCE = 2_000
"""Texts that are tokenised together: what is made of them takes some 100 times their length."""


def step(rule: Length, count: CountTokens) -> Step:
    """The reasons `empty`, `too_short`, `too_long`, `too_few_tokens`, `too_many_tokens`.

    White space around a completion does not count towards `min_chars`. Tokens are those of the texts, without a template's.
    """

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        said, characters = frame.columns["said"], frame.columns["characters"]
        empty = said == 0
        short = ~empty & (said < rule.min_chars)
        long = ~empty & ~short & (characters > rule.max_chars)
        reasons = {"empty": empty, "too_short": short, "too_long": long}
        gone = empty | short | long
        if rule.min_tokens is not None:
            reasons["too_few_tokens"] = ~gone & left & ~_reach(frame, left & ~gone, "told", rule.min_tokens, count)
            gone = gone | reasons["too_few_tokens"]
        if rule.max_tokens is not None:
            reasons["too_many_tokens"] = _reach(frame, left & ~gone, "text", rule.max_tokens + 1, count)
        for reason, rows in reasons.items():
            dropped = np.flatnonzero(left & rows)
            yield Dropped(reason, dropped, np.full(len(dropped), -1))

    return found


def columns(rule: Length) -> set[str]:
    """The texts that the step reads."""
    wanted = {"told": rule.min_tokens, "text": rule.max_tokens}
    return {name for name, bound in wanted.items() if bound is not None}


def _reach(frame: Frame, chosen: Bools, column: str, tokens: int, count: CountTokens) -> Bools:
    """Which of the chosen rows have so many tokens or more."""
    result = np.zeros(len(frame), np.bool_)
    for rows, texts in frame.texts(column):
        wanted = np.flatnonzero(chosen[rows])
        for begin in range(0, len(wanted), AT_ONCE):
            some = wanted[begin : begin + AT_ONCE]
            result[rows[some]] = np.array(count(texts.take(some).to_pylist())) >= tokens
    return result
