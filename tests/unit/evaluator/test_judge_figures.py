"""What a judge's verdicts come to, against scikit-learn's kappa and by simulation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.types import Metric
from services.evaluator.judge.figures import (
    Judged,
    consistent,
    first_wins,
    kappa,
    length_bias,
    longer_wins,
    win_rate,
)
from services.evaluator.judge.question import Pair

WINS = st.sampled_from([0.0, 0.5, 1.0])
PROBABILITY = st.floats(0, 1)


def judged(shown_first: float, shown_second: float, own: str = "own", other: str = "other") -> Judged:
    return Judged(Pair("r", "q", own, other), shown_first, shown_second)


def found(metric: Metric | None) -> Metric:
    assert metric is not None
    return metric


@pytest.mark.parametrize(
    ("shown_first", "shown_second", "win", "contradicted"),
    [
        (1, 1, 1, False),
        (0, 0, 0, False),
        (1, 0, 0.5, True),
        (0, 1, 0.5, True),
        (0.5, 1, 0.75, False),
        (0.9, 0.2, 0.5, True),
    ],
)
def test_verdicts_that_contradict_each_other_make_a_tie(
    shown_first: float, shown_second: float, win: float, contradicted: bool
) -> None:
    each = judged(shown_first, shown_second)
    assert (each.win, each.is_contradicted) == (win, contradicted)


@given(PROBABILITY, PROBABILITY)
def test_whose_answer_it_is_does_not_matter(first: float, second: float) -> None:
    assert judged(first, second).win == pytest.approx(1 - judged(1 - first, 1 - second).win)
    assert 0 <= judged(first, second).win <= 1


@settings(deadline=None)  # the import
@given(st.lists(WINS, min_size=1, max_size=60))
def test_kappa_is_that_of_scikit_learn_with_each_pair_in_both_orders(wins: list[float]) -> None:
    metrics: Any = pytest.importorskip("sklearn.metrics")
    people = ["A"] * len(wins) + ["B"] * len(wins)
    by_judge = [{1.0: "A", 0.0: "B", 0.5: "tie"}[w] for w in wins] + [{1.0: "B", 0.0: "A", 0.5: "tie"}[w] for w in wins]
    metric = found(kappa(wins))
    assert metric.value == pytest.approx(metrics.cohen_kappa_score(people, by_judge))
    assert -1 <= metric.low <= metric.value <= metric.high <= 1
    assert metric.n == len(wins)


def test_kappa_by_hand() -> None:
    """12 right, 3 wrong, 5 ties: agreement 12/20; by chance 1/2 of the 15/20 that are no ties."""
    agreed, chance = 12 / 20, 0.5 * 15 / 20
    metric = found(kappa([1.0] * 12 + [0.0] * 3 + [0.5] * 5))
    assert metric.value == pytest.approx((agreed - chance) / (1 - chance))
    assert kappa([]) is None


def test_three_pairs_without_an_error_are_not_certain() -> None:
    assert found(kappa([1.0] * 3)).low < 0
    assert found(kappa([1.0] * 8)).low < 0.4 < found(kappa([1.0] * 9)).low


def test_the_interval_of_kappa_covers_the_truth() -> None:
    """Each end lies on the wrong side of the truth in at most 3.5% of samples (2.5% are meant), of good judges too."""
    random = np.random.default_rng(11)
    for n, ties, right in ((12, 0.0, 0.75), (40, 0.2, 0.9), (40, 0.0, 0.97), (100, 0.4, 0.75), (100, 0.2, 0.97)):
        shares = [(1 - ties) * right, (1 - ties) * (1 - right), ties]
        truth = (shares[0] - shares[1]) / (1 + ties)
        above = below = 0
        for r, w, t in random.multinomial(n, shares, size=400):
            metric = found(kappa([1.0] * r + [0.0] * w + [0.5] * t))
            above += metric.low > truth + 1e-9
            below += metric.high < truth - 1e-9
        assert max(above, below) <= 0.035 * 400, (n, ties, right)


def test_a_judge_that_takes_the_first_is_seen() -> None:
    lazy = [judged(1.0, 0.0) for _ in range(20)]
    assert (found(first_wins(lazy)).value, found(consistent(lazy)).value) == (100, 0)
    assert found(win_rate([each.win for each in lazy])).value == 50
    fair = [judged(1.0, 1.0), judged(0.0, 0.0), judged(0.5, 0.5)]
    assert (found(first_wins(fair)).value, found(consistent(fair)).value) == (50, 100)
    assert first_wins([]) is consistent([]) is None


@given(st.lists(st.tuples(PROBABILITY, PROBABILITY), min_size=1, max_size=20))
def test_the_share_of_the_first_is_50_of_what_does_not_hang_on_the_order(pairs: list[tuple[float, float]]) -> None:
    assert found(first_wins([judged(p, p) for p, _ in pairs])).value == pytest.approx(50)
    both = found(first_wins([judged(p, q) for p, q in pairs])).value
    assert both == pytest.approx(100 * np.mean([(p + 1 - q) / 2 for p, q in pairs]))


def test_length_is_a_bias_only_beyond_what_people_choose() -> None:
    people_like_long = [judged(1.0, 1.0, own="a longer one", other="short") for _ in range(10)]
    assert found(length_bias(people_like_long)).value == 0
    people_like_short = [judged(0.0, 0.0, own="short", other="a longer one") for _ in range(10)]
    bias = found(length_bias(people_like_short))
    assert (bias.value, bias.n) == (100, 10)
    assert found(longer_wins([*people_like_long, *people_like_short])).value == 100
    assert length_bias([judged(1.0, 1.0, own="same", other="size")]) is None
