"""How many examples would settle a comparison that is open."""

from math import ceil, log2, sqrt
from statistics import NormalDist

from contracts.types import Metric

POWER = 0.9
_NORMAL = NormalDist()


def examples_to_settle(sd: float, gap: float, alpha: float, power: float = POWER) -> int | None:
    """So many examples show a difference of `gap` from the margin at the one-sided level `alpha`, with probability `power`.

    ((z_alpha + z_power) sd / gap)^2 + z_alpha^2 / 2, the last for sd being estimated (Guenther, "Sample size formulas for normal
    theory t tests", The American Statistician 35, 1981; on power in language processing Card et al. 2020, 2020.emnlp-main.745).
    `sd` is of one example's difference, in the unit of `gap`; None where there is no gap.
    """
    if gap == 0:
        return None
    z = _NORMAL.inv_cdf(1 - alpha)
    found = ((z + _NORMAL.inv_cdf(power)) * sd / gap) ** 2 + z * z / 2
    return max(least_examples(alpha), ceil(found)) if found < 1e12 else None


def least_examples(alpha: float) -> int:
    """With fewer examples no sign-flip test has a p of `alpha` or less: its least is 2^-n."""
    return max(1, ceil(-log2(alpha)))


def deviation(metric: Metric) -> float:
    """Standard deviation of one example's figure, as the width of the 95% interval of their mean tells it."""
    return (metric.high - metric.low) / 2 / _NORMAL.inv_cdf(0.975) * sqrt(metric.n)
