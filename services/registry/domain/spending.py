"""Held-out rows are spent: each comparison on them takes its part of the project's alpha. A fold over scores; knows no store.

The k-th candidate that is compared on the same rows is judged at alpha * 6 / (pi^2 k^2). These levels sum to alpha, so of any
number of candidates that are no better, one passes at most with probability alpha (Bonferroni's inequality over a series that
converges, as in Foster and Stine, "Alpha-investing", Journal of the Royal Statistical Society B 70, 2008, section 2, and the
gamma series of LORD, Javanmard and Montanari 2018). Fresh rows renew it: where the share f of the rows was not looked at in the
comparison before, k counts on from (1 - f) of what it was. With f of 0 or 1 the bound is the theorem's; between them this is an
interpolation, not a theorem.
"""

from dataclasses import dataclass
from math import pi

from contracts.types import SKETCH, HeldOutRows


@dataclass(frozen=True, slots=True)
class Look:
    """One comparison: the `number`-th on its rows (fractions come of fresh rows), and the shares of alpha it takes and leaves.

    `fresh` is the share of its rows that the comparison before did not have.
    """

    number: float
    fresh: float
    takes: float
    left: float

    def level(self, alpha: float) -> float:
        """The level at which it is decided."""
        return alpha * self.takes


@dataclass(frozen=True, slots=True)
class Spent:
    """What comparisons have taken of held-out rows: so many, counted on the rows of the last, and their share of alpha."""

    looks: float
    spent: float
    rows: HeldOutRows


def look(before: Spent | None, rows: HeldOutRows | None) -> Look:
    """The next comparison. Rows that an evaluator of before did not tell count as the last ones."""
    fresh = 1.0 if before is None else 0.0 if rows is None else fresh_share(before.rows, rows)
    kept = 0.0 if before is None else 1.0 - fresh
    number = 1 + kept * (before.looks if before else 0.0)
    takes = 6 / (pi * number) ** 2
    return Look(number, fresh, takes, max(0.0, 1 - takes - kept * (before.spent if before else 0.0)))


def spend(taken: Look, rows: HeldOutRows) -> Spent:
    """What is spent after it."""
    return Spent(taken.number, 1 - taken.left, rows)


def fresh_share(before: HeldOutRows, now: HeldOutRows) -> float:
    """Share of the rows of `now` that are not among those of `before`.

    Exact where both have all digests. Else of the rows whose digests lie where both sketches are complete, which are as good as
    drawn at random (coordinated samples; Beyer et al., "On synopses for distinct-value estimation", 2007).
    """
    if before.digest == now.digest:
        return 0.0
    ends = [rows.smallest[-1] for rows in (before, now) if rows.rows > SKETCH]
    sample = [digest for digest in now.smallest if not ends or digest <= min(ends)]
    if not sample:
        return 0.0
    return len(set(sample) - set(before.smallest)) / len(sample)


def words(taken: Look, alpha: float) -> str:
    """The comparison for people."""
    what = f"comparison {taken.number:.3g} on these held-out rows" + (
        f", {taken.fresh:.0%} of them fresh" if 0 < taken.fresh < 1 else ""
    )
    return (
        f"{what}: decided at {taken.level(alpha):.2g} of {alpha:g}, {taken.left:.0%} of which is left for further ones"
    )
