import pytest
import torch

from services.serving.triton.backend.sampler import Sampler, choose, generator
from services.serving.triton.backend.sampling_parameters import Sampling

CPU = torch.device("cpu")
LOGITS = torch.tensor([1.0, 3.0, 2.0, -1.0, 0.0])


def row(
    sampling: Sampling, output: list[int] | None = None, ends: tuple[int, ...] = (), prompt: list[int] | None = None
) -> Sampler:
    return Sampler(sampling, prompt or [], output or [], ends, generator(sampling, CPU))


def draws(sampling: Sampling, count: int = 200) -> set[int]:
    chooser = row(sampling)
    return {choose(LOGITS[None], [chooser])[0] for _ in range(count)}


def test_greedy_takes_the_likeliest() -> None:
    assert choose(LOGITS[None], [row(Sampling(temperature=0))]) == [1]


def test_ends_are_forbidden_before_min_tokens() -> None:
    wish = Sampling(temperature=0, min_tokens=1)
    assert choose(LOGITS[None], [row(wish, ends=(1,))]) == [2]
    assert choose(LOGITS[None], [row(wish, output=[0], ends=(1,))]) == [1]


def test_top_k_and_top_p_bound_the_draw() -> None:
    assert draws(Sampling(seed=1, temperature=5.0)) == {0, 1, 2, 3, 4}
    assert draws(Sampling(seed=1, temperature=5.0, top_k=2)) == {1, 2}
    assert draws(Sampling(seed=1, top_p=0.1)) == {1}
    assert draws(Sampling(seed=1, top_p=0.7)) == {1, 2}
    assert draws(Sampling(seed=1, temperature=5.0, min_p=0.7)) == {1, 2}


def test_a_nucleus_wider_than_the_head_is_still_whole() -> None:
    flat = torch.zeros(1, 5000)
    chooser = row(Sampling(seed=3, top_p=0.9))
    assert len({choose(flat, [chooser])[0] for _ in range(400)}) > 256


def test_a_seed_decides_the_draws_whatever_the_neighbours() -> None:
    wish = Sampling(seed=7, temperature=5.0)
    alone, first, second = row(wish), row(Sampling(temperature=5.0)), row(wish)
    both = torch.stack([LOGITS, LOGITS])
    assert [choose(LOGITS[None], [alone])[0] for _ in range(20)] == [
        choose(both, [first, second])[1] for _ in range(20)
    ]


def test_penalties_lower_what_was_used() -> None:
    assert choose(LOGITS[None], [row(Sampling(temperature=0, presence_penalty=2.0), output=[1])]) == [2]
    assert choose(LOGITS[None], [row(Sampling(temperature=0, frequency_penalty=0.6), output=[1, 1])]) == [2]
    assert choose(LOGITS[None], [row(Sampling(temperature=0, repetition_penalty=2.0), prompt=[1])]) == [2]


def test_biases_are_added_before_the_choice() -> None:
    assert choose(LOGITS[None], [row(Sampling(temperature=0, logit_bias=((4, 100.0),)))]) == [4]
    assert choose(LOGITS[None], [row(Sampling(temperature=0, logit_bias=((1, -100.0),)))]) == [2]


def test_scores_are_the_models_own_whatever_was_wished_of_the_choice() -> None:
    chooser = row(Sampling(temperature=0, logprobs=2, logit_bias=((0, 100.0),)))
    assert choose(LOGITS[None], [chooser]) == [0]
    (score,) = chooser.scores
    logprobs = LOGITS.log_softmax(-1)
    assert (score.token, score.rank) == (0, 3)
    assert score.logprob == pytest.approx(float(logprobs[0]))
    assert [token for token, _ in score.likeliest] == [1, 2]
    assert score.likeliest[0][1] == pytest.approx(float(logprobs[1]))
