"""GatewayMetrics of one answer against its reference; every figure of a suite is the mean of these over the examples.

chrF and BLEU are sacrebleu's sentence-level scores (Popović 2015; Papineni et al. 2002 with effective order), not the
corpus-level ones: an interval and a paired difference need a figure an example. ROUGE-L is rouge-score's F-measure
(Lin 2004) on lower-cased words. Knows no model.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_WORD = re.compile(r"[^\W_]+")


class Words:
    """rouge-score's own tokenizer keeps a-z and 0-9 alone; this one does the same there and keeps other scripts too."""

    def tokenize(self, text: str) -> list[str]:
        """Lower-cased runs of letters and digits."""
        return _WORD.findall(text.lower())


@lru_cache(maxsize=1)
def _scorers() -> tuple[CHRF, BLEU, Any]:
    return CHRF(), BLEU(effective_order=True), RougeScorer(["rougeL"], tokenizer=Words())


def normalised(text: str) -> str:
    """`text` without blanks at its ends, every run of white space one blank."""
    return " ".join(text.split())


def exact_match(answer: str, reference: str) -> float:
    """1.0 where the texts are equal but for white space, otherwise 0.0."""
    return float(normalised(answer) == normalised(reference))


def chrf(answer: str, reference: str) -> float:
    """chrF2, 0 to 100."""
    return _scorers()[0].sentence_score(answer, [reference]).score


def bleu(answer: str, reference: str) -> float:
    """Sentence BLEU-4, 0 to 100, tokenised as mteval-v13a does."""
    return _scorers()[1].sentence_score(answer, [reference]).score


def rouge_l(answer: str, reference: str) -> float:
    """F-measure of the longest common subsequence of words, 0 to 100; texts without words compare as a whole."""
    if not Words().tokenize(reference):
        return 100.0 * exact_match(answer, reference)
    return 100.0 * _scorers()[2].score(reference, answer)["rougeL"].fmeasure


ON_ANSWERS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "chrf": chrf,
    "bleu": bleu,
    "rouge_l": rouge_l,
}
"""GatewayMetrics that need an answer; `loss` needs the model instead."""

HIGHER_IS_BETTER = {"loss": False, "exact_match": True, "chrf": True, "bleu": True, "rouge_l": True}
