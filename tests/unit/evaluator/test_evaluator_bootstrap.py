import numpy as np
import pytest

from services.evaluator.domain.bootstrap import difference, metric


def test_interval_of_a_normal_sample_is_that_of_the_standard_error():
    sample = np.random.default_rng(1).normal(50, 10, 400)
    found = metric(sample.tolist())
    half = 1.96 * sample.std() / 20
    assert found.value == pytest.approx(sample.mean())
    assert found.low == pytest.approx(found.value - half, abs=0.25)
    assert found.high == pytest.approx(found.value + half, abs=0.25)
    assert found.n == 400


def test_the_same_values_give_the_same_interval():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert metric(values) == metric(values)


def test_equal_values_have_no_width():
    found = metric([2.0] * 10, higher_is_better=False)
    assert (found.value, found.low, found.high, found.higher_is_better) == (2.0, 2.0, 2.0, False)


def test_pairing_makes_a_steady_gain_certain():
    champion = np.random.default_rng(2).normal(40, 25, 60)
    gain = difference((champion + 3).tolist(), champion.tolist())
    assert gain.value == pytest.approx(3)
    assert gain.low > 2.9
    assert metric((champion + 3).tolist()).low < metric(champion.tolist()).high


def test_many_examples_are_resampled_in_blocks():
    values = np.random.default_rng(3).normal(0, 1, 300_000)[:30_000]
    found = metric(values.tolist())
    assert found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(30_000), rel=0.1)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_is_not_finite_has_no_interval(values: list[float]):
    with pytest.raises(ValueError, match="finite"):
        metric(values)


def test_pairs_must_be_complete():
    with pytest.raises(ValueError, match="zip"):
        difference([1.0, 2.0], [1.0])
