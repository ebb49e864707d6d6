"""Picks records that show a model what is wanted: few that stand for many. Knows no dataset and no file.

Greedy maximisation of the facility location function: each step takes the record that makes the sample as a whole most similar to
its nearest picked record. Greedy is within 1 - 1/e of the best choice (Nemhauser, Wolsey and Fisher, Mathematical Programming 14,
1978); Lin and Bilmes (P11-1052) pick sentences so. Similarity is Jaccard's of the words of question and answer. Unlike picking
what is farthest apart, it takes no outlier, since few records are similar to one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.lm.scoring.words import words


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as an exchange."""

    record_id: str
    user: str
    assistant: str


def pick(sample: Sequence[Shown], count: int) -> list[Shown]:
    """Up to `count` of the sample, the most telling first; the same for the same sample, of equals the earlier one."""
    sets = [frozenset(words(one.user) + words(one.assistant)) for one in sample]
    likeness = [[jaccard(a, b) for b in sets] for a in sets]
    covered = [0.0] * len(sample)
    left = list(range(len(sample)))
    picked: list[int] = []
    while left and len(picked) < count:
        best = max(left, key=lambda i: (gain(likeness[i], covered), -i))
        covered = [max(pair) for pair in zip(covered, likeness[best], strict=True)]
        left.remove(best)
        picked.append(best)
    return [sample[i] for i in picked]


def gain(likeness: Sequence[float], covered: Sequence[float]) -> float:
    """By how much a record makes the sample better covered."""
    return sum(new - old for new, old in zip(likeness, covered, strict=True) if new > old)


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Words in both by words in either; 1 for two sets without any."""
    return len(a & b) / len(a | b) if a or b else 1.0
