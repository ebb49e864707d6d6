"""Metrics of one answer against its reference, 0 to 100 each; a subject's figure is their mean over the examples.

Texts are compared in one Unicode form (NFC), as prep compares them. chrF and BLEU are sacrebleu's sentence-level scores (Popović
2015; Papineni et al. 2002 with effective order), not the corpus-level ones: an interval and a paired difference need a figure an
example. BLEU is tokenised as mteval-v13a does, ROUGE-L is rouge-score's F-measure (Lin 2004) on lower-cased words; both take
single characters where a script writes no spaces between words (words.py).
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from services.lm.scoring.words import spaced, words


class WordTokenizer:
    """rouge-score's interface of a tokenizer. Its own keeps a-z and 0-9 alone; this one does the same there."""

    def tokenize(self, text: str) -> list[str]:
        """The words of `text`."""
        return words(text)


@lru_cache(maxsize=1)
def _scorers() -> tuple[CHRF, BLEU, Any]:
    return CHRF(), BLEU(effective_order=True), RougeScorer(["rougeL"], tokenizer=WordTokenizer())


def normalised(text: str) -> str:
    """`text` in NFC, without white space at its ends, every run of white space one space."""
    return " ".join(_nfc(text).split())


def exact_match(answer: str, reference: str) -> float:
    """100 where the texts are equal but for Unicode form and the amount of white space, otherwise 0; case and signs count."""
    return 100.0 * (normalised(answer) == normalised(reference))


def chrf(answer: str, reference: str) -> float:
    """chrF2."""
    return _scorers()[0].sentence_score(_nfc(answer), [_nfc(reference)]).score


def bleu(answer: str, reference: str) -> float:
    """Sentence BLEU-4."""
    return _scorers()[1].sentence_score(spaced(_nfc(answer)), [spaced(_nfc(reference))]).score


def rouge_l(answer: str, reference: str) -> float:
    """F-measure of the longest common subsequence of words; texts without words compare as a whole."""
    answer, reference = _nfc(answer), _nfc(reference)
    if not words(reference):
        return exact_match(answer, reference)
    return 100.0 * _scorers()[2].score(reference, answer)["rougeL"].fmeasure


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


ON_ANSWERS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "chrf": chrf,
    "bleu": bleu,
    "rouge_l": rouge_l,
}
"""Metrics that need an answer; `loss` needs the model instead."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a metric's values are summed up; `share`: each of them is 0 or 100."""

    higher_is_better: bool = True
    unit: str = "percent"
    share: bool = False


KINDS = {
    "loss": Kind(higher_is_better=False, unit="nats per token"),
    "exact_match": Kind(share=True),
    "chrf": Kind(),
    "bleu": Kind(),
    "rouge_l": Kind(),
}
