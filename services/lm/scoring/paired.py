"""The one-sided paired sign-flip (permutation) test of a difference against a margin.

Under the null hypothesis an example's two figures, the candidate's without the margin, could as well be each other's: all 2^n
ways of exchanging them are equally likely, and p is the share of ways that show as much for the candidate as was seen, or more.
Fisher, The Design of Experiments (1935), section 21; for text metrics Yeh 2000 (C00-2137) and Dror et al. 2018 (P18-1128). Of
shares it is McNemar's exact test. Of many ways a random choice is counted, the observed one among them (Phipson and Smyth
2010), so p is never 0. A mean by weights is exchanged with its weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from services.lm.scoring.intervals import SEED, Weights

FLIPS = 99_999
"""So many random arrangements: p is 0.00001 at least, enough for any level that alpha spending reaches in 30 comparisons."""
EXACT = 14
"""Of so many examples that differ all arrangements are counted, 16,384 at most."""
GROUPS = 512
"""More examples than that are exchanged in so many groups: these arrangements are a subgroup of all, so the level stays exact
(Hemerik and Goeman 2018), and time and memory are bounded."""
_BLOCK = 4_000_000

_Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Tested:
    """`p` is above 0 and at most 1; `sd` is one example's difference's; `differing` examples differ; `flips` were counted."""

    p: float
    sd: float
    n: int
    differing: int
    flips: int
    exact: bool


@dataclass(frozen=True, slots=True)
class _Arms:
    """Sums of (figure by weight, weight), shape (groups, 2), of the candidate and of the champion."""

    candidate: _Vector
    champion: _Vector

    def difference(self) -> float:
        """The candidate's mean minus the champion's."""
        own, other = self.candidate.sum(axis=0), self.champion.sum(axis=0)
        return float(own[0] / own[1] - other[0] / other[1])


def sign_flip(
    candidate: Sequence[float],
    champion: Sequence[float],
    margin: float = 0.0,
    upward: bool = True,
    weights: Weights = None,
    flips: int = FLIPS,
) -> Tested:
    """Whether candidate minus champion passes `margin` upward (or downward); figures are one an example, `weights` are of each.

    The same values give the same p.

    Raises:
        ValueError: for unequal lengths, no values, or one that is not finite.
    """
    own, other, own_weight, other_weight = _vectors(candidate, champion, weights)
    arms = _grouped(
        _Arms(
            np.stack([(own - margin) * own_weight, own_weight], axis=1),
            np.stack([other * other_weight, other_weight], axis=1),
        )
    )
    sign = 1.0 if upward else -1.0
    observed = sign * arms.difference()
    change = arms.champion - arms.candidate
    moves = change.any(axis=1)
    tolerance = 1e-9 * abs(observed) + 1e-12  # arrangements that are equal but for rounding count as equal
    count = int(moves.sum())
    exact = 2**count <= min(2**EXACT, flips + 1)
    total = 2**count if exact else flips
    found = 0
    for start in range(0, total, step := max(1, _BLOCK // max(1, count))):
        rows = min(step, total - start)
        exchanged = _all(start, rows, count) if exact else _random(start, rows, count)
        found += int((sign * _differences(arms, change[moves], exchanged) >= observed - tolerance).sum())
    p = found / total if exact else (1 + found) / (1 + total)
    sd = _deviation(own, other, own_weight, other_weight)
    return Tested(p, sd, len(own), int((own != other).sum()), total, exact)


def _vectors(
    candidate: Sequence[float], champion: Sequence[float], weights: Weights
) -> tuple[_Vector, _Vector, _Vector, _Vector]:
    if len(candidate) != len(champion):
        raise ValueError(f"pairs must be complete; got {len(candidate)} and {len(champion)} values")
    own, other = (np.asarray(values, dtype=np.float64) for values in (candidate, champion))
    if not own.size or not (np.isfinite(own).all() and np.isfinite(other).all()):
        raise ValueError(f"a test needs finite values, one pair at least; got {own.size} pairs, some not finite")
    first, second = weights or (np.ones(own.size), np.ones(own.size))
    return own, other, np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)


def _grouped(arms: _Arms) -> _Arms:
    """Examples i, i + GROUPS, i + 2 GROUPS, ... as one."""
    n = len(arms.candidate)
    if n <= GROUPS:
        return arms
    padded = -(-n // GROUPS) * GROUPS - n
    parts = (
        np.pad(arm, ((0, padded), (0, 0))).reshape(-1, GROUPS, 2).sum(axis=0) for arm in (arms.candidate, arms.champion)
    )
    return _Arms(*parts)


def _differences(arms: _Arms, change: _Vector, exchanged: _Vector) -> _Vector:
    """The difference of each arrangement: `change` (k, 2) by whom, `exchanged` (arrangements, k) of 0 and 1."""
    own, other = arms.candidate.sum(axis=0), arms.champion.sum(axis=0)
    moved = exchanged @ change
    return (own[0] + moved[:, 0]) / (own[1] + moved[:, 1]) - (other[0] - moved[:, 0]) / (other[1] - moved[:, 1])


def _all(start: int, rows: int, count: int) -> _Vector:
    numbers = np.arange(start, start + rows)[:, None]
    return ((numbers >> np.arange(count)) & 1).astype(np.float64)


def _random(start: int, rows: int, count: int) -> _Vector:
    random = np.random.default_rng((SEED, start))
    bits = np.frombuffer(random.bytes(-(-rows * count // 8)), dtype=np.uint8)
    return np.unpackbits(bits, count=rows * count).reshape(rows, count).astype(np.float64)


def _deviation(own: _Vector, other: _Vector, own_weight: _Vector, other_weight: _Vector) -> float:
    """Standard deviation of one example's part in the difference.

    Of a mean by weights its linear part, as of a ratio estimator (Cochran, Sampling Techniques, 1977, section 6.4).
    """
    if own.size < 2:
        return 0.0
    parts = [
        own.size * w * (v - (w * v).sum() / w.sum()) / w.sum() for v, w in ((own, own_weight), (other, other_weight))
    ]
    return sqrt(float(((parts[0] - parts[1]) ** 2).sum()) / (own.size - 1))
