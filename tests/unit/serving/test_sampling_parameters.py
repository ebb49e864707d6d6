import json

import pytest

from services.serving.triton.backend.sampling_parameters import BadSampling, Sampling, parse


def test_defaults_are_vllms() -> None:
    assert parse("{}") == parse("") == Sampling()
    assert (Sampling().max_tokens, Sampling().temperature) == (16, 1.0)


def test_values_may_be_strings_as_triton_parameters_carry_them() -> None:
    assert parse('{"max_tokens": "7", "temperature": "0.5", "ignore_eos": "true"}') == Sampling(
        max_tokens=7, temperature=0.5, ignore_eos=True
    )


def test_one_stop_string_is_a_list_of_one_and_none_is_the_default() -> None:
    assert parse('{"stop": "END", "seed": null, "detokenize": true, "n": 1}') == Sampling(stop=("END",))


def test_max_tokens_null_means_as_far_as_the_context_goes() -> None:
    assert parse('{"max_tokens": null}').max_tokens is None


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": float("inf")}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"ignore_eos": "maybe"}, "ignore_eos"),
        ({"lora_name": 3}, "lora_name"),
        ({"n": 2}, "n must be 1"),
        ({"top_q": 1}, "top_q"),
    ],
)
def test_a_bad_value_is_refused_by_name(given: dict[str, object], name: str) -> None:
    with pytest.raises(BadSampling, match=name):
        parse(json.dumps(given))


@pytest.mark.parametrize("given", ["[1]", "{", "[" * 100_000])
def test_what_is_no_json_object_is_refused(given: str) -> None:
    with pytest.raises(BadSampling):
        parse(given)
