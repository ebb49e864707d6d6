"""What a judge's verdicts come to: win rate, agreement with people, bias by position and by length. Pure.

Of each pair `own` is what wins or loses: the candidate's answer, or what people chose. Both orders are asked, as Zheng et al.
2023 do ("Judging LLM-as-a-judge with MT-bench", arXiv 2306.05685, section 3.4): verdicts that contradict each other make a tie.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.types import Metric
from services.evaluator.judge.question import Pair
from services.lm.scoring import intervals
from services.lm.scoring.intervals import RESAMPLES, SEED

TIE = 0.5


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair with the probability that `own` is the better answer, by order: shown first, shown second."""

    pair: Pair
    shown_first: float
    shown_second: float

    @property
    def is_contradicted(self) -> bool:
        """Whether one order says own and the other one other."""
        return (self.shown_first - TIE) * (self.shown_second - TIE) < 0

    @property
    def win(self) -> float:
        """How far `own` wins, 0 to 1: the mean of both orders, a tie where they contradict each other."""
        return TIE if self.is_contradicted else (self.shown_first + self.shown_second) / 2

    @property
    def longer_wins(self) -> float | None:
        """How far the longer answer wins, by characters; None of equal lengths."""
        own, other = len(self.pair.own), len(self.pair.other)
        return None if own == other else self.win if own > other else 1 - self.win


def win_rate(wins: Sequence[float]) -> Metric | None:
    """Percent that `own` wins; None of nothing."""
    return _percent(intervals.mean([100 * win for win in wins]), len(wins)) if wins else None


def kappa(wins: Sequence[float]) -> Metric | None:
    """Cohen's kappa of a judge's verdicts and people's choices, from how far the chosen answer wins on each pair.

    Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960). Each pair counts
    in both orders, so people's choice is A as often as B; a judge's tie is an answer that people never give. With shares r of
    wins, w of losses, t of ties kappa is then (r - w) / (1 + t). The interval is the wider of two on either side: the percentile
    bootstrap over pairs, which is [1, 1] of three pairs without an error, and Wilson's of r + t/2 with t as it was seen, which
    forgets that t varies.
    """
    n = len(wins)
    if n == 0:
        return None
    right, wrong = sum(win > TIE for win in wins), sum(win < TIE for win in wins)
    ties = n - right - wrong
    drawn = np.random.default_rng(SEED).multinomial(n, [right / n, wrong / n, ties / n], size=RESAMPLES)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / (n + drawn[:, 2]), (2.5, 97.5))
    _, *ends_of_half = intervals.share(right + ties / 2, n)
    of_wilson = [(2 * end - 1) / (1 + ties / n) for end in ends_of_half]
    value = (right - wrong) / (n + ties)
    ends = min(value, float(low), of_wilson[0]), max(value, float(high), of_wilson[1])
    return Metric(value=value, low=max(-1.0, ends[0]), high=min(1.0, ends[1]), n=n)


def first_wins(judged: Iterable[Judged]) -> Metric | None:
    """Percent that the answer shown first wins, over both orders of a pair; 50 of a judge that does not look at the order."""
    shares = [100 * (each.shown_first + 1 - each.shown_second) / 2 for each in judged]
    return _percent(intervals.mean(shares), len(shares)) if shares else None


def consistent(judged: Iterable[Judged]) -> Metric | None:
    """Percent of pairs on which both orders say the same: own, other, or a tie."""
    same = [np.sign(each.shown_first - TIE) == np.sign(each.shown_second - TIE) for each in judged]
    if not same:
        return None
    value, low, high = intervals.share(sum(map(bool, same)), len(same))
    return _percent((100 * value, 100 * low, 100 * high), len(same))


def longer_wins(judged: Iterable[Judged]) -> Metric | None:
    """Percent that the longer answer wins, of those with unequal lengths. That alone is no bias: it may be the better one."""
    return win_rate([longer for each in judged if (longer := each.longer_wins) is not None])


def length_bias(people: Iterable[Judged]) -> Metric | None:
    """Percent that the judge chooses the longer answer beyond what people do on the same pairs; `own` is people's choice."""
    pairs = [(each, longer) for each in people if (longer := each.longer_wins) is not None]
    if not pairs:
        return None
    by_judge = [100 * longer for _, longer in pairs]
    by_people = [100.0 * (len(each.pair.own) > len(each.pair.other)) for each, _ in pairs]
    return _percent(intervals.difference(by_judge, by_people), len(pairs))


def _percent(interval: intervals.Interval, n: int) -> Metric:
    value, low, high = interval
    return Metric(value=value, low=low, high=high, n=n, unit="percent")
