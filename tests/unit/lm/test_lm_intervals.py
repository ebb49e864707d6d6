import numpy as np
import pytest

from services.lm.scoring.intervals import difference, mean, share


def test_interval_of_a_normal_sample_is_that_of_the_standard_error():
    sample = np.random.default_rng(1).normal(50, 10, 400)
    value, low, high = mean(sample.tolist())
    half = 1.96 * sample.std() / 20
    assert value == pytest.approx(sample.mean())
    assert low == pytest.approx(value - half, abs=0.25)
    assert high == pytest.approx(value + half, abs=0.25)


def test_the_same_values_give_the_same_interval():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert mean(values) == mean(values)


def test_equal_values_have_no_width():
    assert mean([2.0] * 10) == (2.0, 2.0, 2.0)
    assert mean([2.0] * 3, [1, 5, 9]) == pytest.approx((2.0, 2.0, 2.0))


def test_a_weighted_mean_is_that_of_the_parts_it_stands_for():
    value, low, high = mean([1.0, 4.0], [3, 1])
    assert value == pytest.approx((3 * 1 + 4) / 4)
    assert (low, high) == (1.0, 4.0)


def test_pairing_makes_a_steady_gain_certain():
    champion = np.random.default_rng(2).normal(40, 25, 60)
    gain, low, _ = difference((champion + 3).tolist(), champion.tolist())
    assert gain == pytest.approx(3)
    assert low > 2.9
    assert mean((champion + 3).tolist())[1] < mean(champion.tolist())[2]


def test_a_weighted_difference_is_that_of_the_weighted_means():
    own, other = ([1.0, 2.0], [1, 3]), ([2.0, 3.0], [1, 1])
    found = difference(own[0], other[0], (own[1], other[1]))[0]
    assert found == pytest.approx(mean(*own)[0] - mean(*other)[0])


def test_many_examples_are_resampled_in_blocks():
    _, low, high = mean(np.random.default_rng(3).normal(0, 1, 30_000).tolist())
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(30_000), rel=0.1)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_is_not_finite_has_no_interval(values: list[float]):
    with pytest.raises(ValueError, match="finite"):
        mean(values)


def test_pairs_must_be_complete():
    with pytest.raises(ValueError, match="complete"):
        difference([1.0, 2.0], [1.0])


# Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_of_shares_are_wilsons_as_published(hits: int, n: int, low: float, high: float):
    assert share(hits, n) == pytest.approx((hits / n, low, high), abs=5e-5)
    assert share(n - hits, n) == pytest.approx((1 - hits / n, 1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_of_nothing_is_refused(hits: int, n: int):
    with pytest.raises(ValueError, match="share"):
        share(hits, n)
