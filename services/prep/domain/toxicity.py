"""How toxic a record's texts are by a linear classifier of English, and the step that drops such. Accuracy: decision 43.

The model, a linear SVM on words with calibrated probabilities, lies in the package alt-profanity-check (extra `toxicity`).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from services.prep.domain.frame import Bools, Dropped, Frame, Step

PIECE = 150
"""Characters of whole sentences that are judged together: among many others a few words tell the model nothing."""
PACKAGE = "profanity_check"
_ENDS = re.compile(r"(?<=[.!?\n])\s+")


def is_there() -> bool:
    """Whether the classifier is installed."""
    return find_spec(PACKAGE) is not None


def scores(texts: Sequence[Sequence[str]]) -> list[float]:
    """Of each record's texts the greatest probability of a piece, 0 of none, to three digits."""
    pieces = [[piece for text in of_record for piece in cut(text)] for of_record in texts]
    flat = [piece for of_record in pieces for piece in of_record]
    found = _classifier()(flat) if flat else np.empty(0)
    ends = [0, *accumulate(map(len, pieces))]
    return [round(float(found[i:j].max(initial=0.0)), 3) for i, j in pairwise(ends)]


def cut(text: str) -> list[str]:
    """The text in pieces of sentences, each of at most PIECE characters where its sentences are no longer."""
    pieces: list[str] = []
    for sentence in filter(None, map(str.strip, _ENDS.split(text))):
        if pieces and len(pieces[-1]) + len(sentence) < PIECE:
            pieces[-1] += f" {sentence}"
        else:
            pieces.append(sentence)
    return pieces


def step(above: float) -> Step:
    """The reason `toxic`: a piece of prompt or completion is so probably toxic."""

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        toxic = np.zeros(len(frame), np.bool_)
        for rows, texts in frame.texts("toxicity"):
            toxic[rows] = np.array(texts.to_pylist(), np.float64) >= above
        dropped = np.flatnonzero(left & toxic)
        yield Dropped("toxic", dropped, np.full(len(dropped), -1))

    return found


@cache
def _classifier() -> Callable[[Sequence[str]], Any]:
    from profanity_check import predict_prob  # scikit-learn: seconds that only those pay who ask

    return predict_prob
