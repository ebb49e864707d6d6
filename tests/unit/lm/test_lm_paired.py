"""p-values of scipy 1.17.1: stats.permutation_test ('samples', all arrangements unless said) and stats.binomtest."""

import numpy as np
import pytest

from services.lm.scoring.paired import EXACT, GROUPS, sign_flip

CANDIDATE = [62.0, 41.5, 88.0, 30.0, 55.0, 71.0, 20.5, 64.0]
CHAMPION = [50.0, 43.0, 70.0, 30.0, 49.5, 60.0, 28.0, 58.0]
TOKENS = ([3, 9, 1, 12, 5, 2, 7, 4], [3, 9, 2, 12, 5, 2, 6, 4])


@pytest.mark.parametrize(
    ("upward", "margin", "p"),
    [(True, 0, 0.0625), (False, 0, 0.9453125), (True, -1, 0.03515625), (True, 3, 0.2265625)],
)
def test_all_arrangements_give_scipys_p(upward: bool, margin: float, p: float):
    found = sign_flip(CANDIDATE, CHAMPION, margin, upward)
    assert found.p == p
    assert (found.exact, found.n, found.differing) == (True, 8, 7)
    assert found.flips == (128 if margin == 0 else 256)


@pytest.mark.parametrize(("upward", "p"), [(False, 0.578125), (True, 0.4296875)])
def test_a_mean_by_tokens_is_exchanged_with_its_tokens(upward: bool, p: float):
    own, other = ([value / 40 for value in values] for values in (CANDIDATE, CHAMPION))
    assert sign_flip(own, other, 0, upward, TOKENS).p == p


def test_a_random_choice_comes_near_scipys():
    random = np.random.default_rng(5)
    champion = random.normal(40, 20, 60).round(3)
    candidate = (champion + random.normal(2, 8, 60)).round(3)
    found = sign_flip(candidate.tolist(), champion.tolist())
    assert not found.exact
    assert found.p == pytest.approx(0.17845, abs=0.004)  # scipy: 2,000,000 arrangements
    assert found == sign_flip(candidate.tolist(), champion.tolist())


@pytest.mark.parametrize(("wins", "losses", "p"), [(9, 2, 0.03271484375), (40, 20, 0.00674464686559593)])
def test_of_shares_it_is_mcnemars_exact_test(wins: int, losses: int, p: float):
    candidate = [100.0] * wins + [0.0] * losses + [100.0] * 30
    champion = [0.0] * wins + [100.0] * losses + [100.0] * 30
    found = sign_flip(candidate, champion)
    assert found.p == pytest.approx(p, abs=0 if wins + losses <= EXACT else 0.001)
    assert found.differing == wins + losses


def test_equal_figures_show_nothing_and_a_margin_alone_shows_what_the_number_of_examples_allows():
    same = [40.0] * 10
    assert sign_flip(same, same).p == 1
    assert sign_flip(same, same, margin=-1).p == 1 / 2**10
    assert sign_flip(same, same, margin=1).p == 1


def test_p_is_never_nothing():
    assert sign_flip([90.0 + i for i in range(50)], [float(i) for i in range(50)]).p == 1e-5


def test_many_examples_are_exchanged_in_groups_and_mean_the_same():
    random = np.random.default_rng(6)
    champion = random.normal(40, 20, 4 * GROUPS + 7)
    candidate = champion + random.normal(0.6, 15, champion.size)
    found = sign_flip(candidate.tolist(), champion.tolist())
    z = (candidate - champion).mean() / (candidate - champion).std() * np.sqrt(champion.size)
    assert found.p == pytest.approx(0.5 * (1 - np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))), abs=0.005)
    assert found.sd == pytest.approx((candidate - champion).std(ddof=1))


def test_the_deviation_of_a_mean_by_tokens_is_that_of_its_resamples():
    random = np.random.default_rng(8)
    tokens, champion = random.integers(1, 60, 400), random.gamma(2, 1, 400)
    candidate = champion + random.normal(0, 0.5, 400)
    found = sign_flip(candidate.tolist(), champion.tolist(), 0, False, (tokens.tolist(), tokens.tolist()), flips=99)
    at = random.integers(0, 400, (4000, 400))
    resamples = ((candidate - champion) * tokens)[at].sum(axis=1) / tokens[at].sum(axis=1)
    assert found.sd / 20 == pytest.approx(resamples.std(), rel=0.05)


@pytest.mark.parametrize("pair", [([1.0], [1.0, 2.0]), ([], []), ([float("nan")], [1.0])])
def test_what_cannot_be_paired_is_refused(pair: tuple[list[float], list[float]]):
    with pytest.raises(ValueError, match=r"pair"):
        sign_flip(*pair)
