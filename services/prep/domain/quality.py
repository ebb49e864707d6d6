"""Rules of quality over a column of completions, by Arrow's functions. Each says what is left out, and where it is from.

Gopher: Rae et al., "Scaling Language Models" (2021), appendix A.1.1. C4: Raffel et al., "Exploring the Limits of Transfer
Learning" (2020), section 2.2. FineWeb: Penedo et al., "The FineWeb Datasets" (2024), section 3.4.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from services.prep.domain.arrow import Column, compute
from services.prep.domain.frame import Bools, Dropped, Frame, Step

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
TERMINAL = r"[.!?…。！？][\"'”’)\]]*[ \t]*$"  # noqa: RUF001 - the marks of Chinese and Japanese


def step(rules: Sequence[str]) -> Step:
    """The reasons `quality_RULE`, of several rules the first."""

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        first = np.full(len(frame), len(rules))
        for rows, texts in frame.texts("completion"):
            for place in range(len(rules) - 1, -1, -1):
                first[rows[RULES[rules[place]](texts)]] = place
        for place, rule in enumerate(rules):
            dropped = np.flatnonzero(left & (first == place))
            yield Dropped(f"quality_{rule}", dropped, np.full(len(dropped), -1))

    return found


def words(texts: Column) -> Bools:
    """Gopher: fewer than 50 words, or more than 100,000."""
    count = _words(texts)
    return (count < 50) | (count > 100_000)


def word_length(texts: Column) -> Bools:
    """Gopher: a mean word length outside of 3 to 10 characters."""
    mean = _count(texts, r"\S") / np.maximum(1, _words(texts))
    return (mean < 3) | (mean > 10)


def symbols(texts: Column) -> Bools:
    """Gopher: more than one hash sign or ellipsis for ten words."""
    return np.maximum(_count(texts, "#"), _count(texts, r"…|\.\.\.")) > 0.1 * _words(texts)


def letters(texts: Column) -> Bools:
    """Gopher: fewer than 80 % of the words have a letter."""
    return _count(texts, r"\S*\pL\S*") < 0.8 * _words(texts)


def stop_words(texts: Column) -> Bools:
    """Gopher: fewer than two of the English words the, be, to, of, and, that, have, with."""
    found = [np.asarray(compute.match_substring_regex(texts, rf"(?i)\b{word}\b")) for word in STOP_WORDS]
    return np.sum(found, axis=0) < 2


def bullets(texts: Column) -> Bools:
    """Gopher: more than 90 % of the lines begin with a bullet."""
    return _count(texts, r"(?m)^[ \t]*[-*•‣◦]") > 0.9 * _lines(texts)


def ellipses(texts: Column) -> Bools:
    """Gopher: more than 30 % of the lines end with an ellipsis."""
    return _count(texts, r"(?m)(…|\.\.\.)[ \t]*$") > 0.3 * _lines(texts)


def lorem_ipsum(texts: Column) -> Bools:
    """C4: the phrase lorem ipsum."""
    return np.asarray(compute.match_substring_regex(texts, r"(?i)lorem ipsum"))


def braces(texts: Column) -> Bools:
    """C4: a curly brace, which stands in code and seldom in prose."""
    return np.asarray(compute.match_substring(texts, "{"))


def javascript(texts: Column) -> Bools:
    """C4, which drops such lines: the word JavaScript."""
    return np.asarray(compute.match_substring_regex(texts, r"(?i)javascript"))


def punctuation(texts: Column) -> Bools:
    """FineWeb: at most 12 % of the lines end with a punctuation mark."""
    return _count(texts, f"(?m){TERMINAL}") <= 0.12 * _lines(texts)


def short_lines(texts: Column) -> Bools:
    """FineWeb: at least 67 % of the lines are shorter than 30 characters."""
    return _lines(texts) - _count(texts, r"(?m)^[^\n]{30}") >= 0.67 * _lines(texts)


def repeated_lines(texts: Column) -> Bools:
    """FineWeb: at least 10 % of the characters stand in lines that stand there before."""
    found: list[bool] = []
    for text in texts.to_pylist():
        lines = [line for line in text.split("\n") if line.strip()]
        repeated = sum(map(len, lines)) - sum(map(len, set(lines)))
        found.append(repeated >= 0.1 * max(1, len(text)))
    return np.array(found, np.bool_)


def _count(texts: Column, pattern: str) -> Any:
    return np.asarray(compute.count_substring_regex(texts, pattern))


def _words(texts: Column) -> Any:
    return _count(texts, r"\S+")


def _lines(texts: Column) -> Any:
    """Lines that are not blank, at least 1."""
    return np.maximum(1, _count(texts, r"(?m)^[^\n]*[^\s][^\n]*"))


RULES: Mapping[str, Callable[[Column], Bools]] = {
    "gopher_words": words,
    "gopher_word_length": word_length,
    "gopher_symbols": symbols,
    "gopher_letters": letters,
    "gopher_stop_words": stop_words,
    "gopher_bullets": bullets,
    "gopher_ellipses": ellipses,
    "c4_lorem_ipsum": lorem_ipsum,
    "c4_braces": braces,
    "c4_javascript": javascript,
    "fineweb_punctuation": punctuation,
    "fineweb_short_lines": short_lines,
    "fineweb_repeated_lines": repeated_lines,
}
