"""95% intervals of a mean by the percentile bootstrap (Efron 1979; for paired text metrics: Koehn 2004, W04-3250).

Knows neither what the values measure nor which models they are of.
"""

from collections.abc import Sequence

import numpy as np

from contracts.types import Metric

RESAMPLES = 2000
SEED = 7


def metric(values: Sequence[float], *, higher_is_better: bool = True) -> Metric:
    """The mean of `values`, one an example, with its interval; the same values give the same interval.

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not sample.size or not np.isfinite(sample).all():
        raise ValueError(
            f"an interval needs finite values, one at least; got {sample.size} of which some are not finite"
        )
    low, high = np.percentile(_means(sample), (2.5, 97.5))
    return Metric(
        value=float(sample.mean()),
        low=float(low),
        high=float(high),
        n=int(sample.size),
        higher_is_better=higher_is_better,
    )


def difference(candidate: Sequence[float], champion: Sequence[float], *, higher_is_better: bool = True) -> Metric:
    """Mean of candidate - champion, paired by example, with its interval.

    Raises:
        ValueError: for unequal lengths, no values, or one that is not finite.
    """
    pairs = zip(candidate, champion, strict=True)
    return metric([a - b for a, b in pairs], higher_is_better=higher_is_better)


def _means(sample: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Means of RESAMPLES resamples, in blocks so that 100,000 examples take no gigabytes."""
    random = np.random.default_rng(SEED)
    block = max(1, 2_000_000 // sample.size)
    counts = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
    return np.concatenate([sample[random.integers(0, sample.size, (n, sample.size))].mean(axis=1) for n in counts])
