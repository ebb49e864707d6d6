"""95% intervals: of a mean and of a paired difference by the percentile bootstrap, of a share by Wilson's score.

Bootstrap: Efron 1979, for paired text metrics Koehn 2004 (W04-3250). Wilson, "Probable inference, the law of succession, and
statistical inference", Journal of the American Statistical Association 22 (1927), which keeps its coverage where shares are
near 0 or 1 and examples few (Brown, Cai and DasGupta 2001); a bootstrap of 0 hits in 86 would be [0, 0].
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import numpy as np

RESAMPLES = 2000
SEED = 7
Z = 1.959963984540054
"""97.5% quantile of the normal distribution."""

Interval = tuple[float, float, float]
"""A figure, and the ends of its interval."""
Weights = tuple[Sequence[float], Sequence[float]] | None

_Vector = np.ndarray[Any, np.dtype[np.float64]]
_Statistic = Callable[[np.ndarray[Any, np.dtype[np.int64]]], _Vector]
"""Indices of resamples (resamples, n) -> the figure of each (resamples)."""


def mean(values: Sequence[float], weights: Sequence[float] | None = None) -> Interval:
    """The mean of `values`, one an example, or their mean by `weights`; the same values give the same interval.

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    return _bootstrap(_mean_of(values, weights), len(values))


def difference(candidate: Sequence[float], champion: Sequence[float], weights: Weights = None) -> Interval:
    """Mean of the candidate minus mean of the champion, resampled by example together; `weights` are of each.

    Raises:
        ValueError: for unequal lengths, no values, or one that is not finite.
    """
    if len(candidate) != len(champion):
        raise ValueError(f"pairs must be complete; got {len(candidate)} and {len(champion)} values")
    own, other = weights or (None, None)
    first, second = _mean_of(candidate, own), _mean_of(champion, other)
    return _bootstrap(lambda at: first(at) - second(at), len(candidate))


def share(hits: float, n: int) -> Interval:
    """The share of `hits` among `n`, 0 to 1, with Wilson's score interval; half a hit is a tie.

    Raises:
        ValueError: without any example, or with more hits than examples.
    """
    if not 0 <= hits <= n or not n:
        raise ValueError(f"a share needs an example at least, and no more hits than examples; got {hits} of {n}")
    p, z2 = hits / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def _mean_of(values: Sequence[float], weights: Sequence[float] | None) -> _Statistic:
    sample = np.asarray(values, dtype=np.float64)
    if not sample.size or not np.isfinite(sample).all():
        raise ValueError(
            f"an interval needs finite values, one at least; got {sample.size} of which some are not finite"
        )
    if weights is None:
        return lambda at: sample[at].mean(axis=1)
    weight = np.asarray(weights, dtype=np.float64)
    sums = sample * weight
    return lambda at: sums[at].sum(axis=1) / weight[at].sum(axis=1)


def _bootstrap(statistic: _Statistic, n: int) -> Interval:
    """RESAMPLES resamples, in blocks so that 100,000 examples take no gigabytes."""
    random = np.random.default_rng(SEED)
    block = max(1, 2_000_000 // n)
    counts = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
    found = np.concatenate([statistic(random.integers(0, n, (count, n))) for count in counts])
    low, high = np.percentile(found, (2.5, 97.5))
    return float(statistic(np.arange(n)[None])[0]), float(low), float(high)
