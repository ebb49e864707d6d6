"""Reads the JSON of the tensor sampling_parameters into Sampling.

Names and defaults are those of vLLM's SamplingParams (https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html),
so that a client need not know which of the two back ends answers. Values may be strings, as Triton's own request
parameters carry them.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, cast

from services.serving.triton.grammars import GrammarRefused, grammar

MAX_STOPS = 64
MAX_LOGPROBS = 20  # of a token, as vLLM has it by default
IGNORED = {
    "spaces_between_special_tokens",
    "detokenize",
    "best_of",
    "truncate_prompt_tokens",
}


class BadSampling(ValueError):
    """A sampling parameter that cannot be honoured; the message names it."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one request wants its tokens chosen and when it ends.

    top_k 0 or -1 and top_p 1 mean no limit; temperature 0 is greedy; max_tokens None is as far as the context goes.
    """

    max_tokens: int | None = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token, added to its logit)
    logprobs: int | None = None  # likeliest tokens to tell of beside the chosen one
    prompt_logprobs: int | None = None  # the same of the prompt's tokens
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    structured_outputs: str | None = None
    """The grammar of what the answer must look like."""
    lora_name: str | None = None

    @property
    def greedy(self) -> bool:
        """Whether no chance is wanted; the bound is vLLM's."""
        return self.temperature < 1e-5

    @property
    def penalised(self) -> bool:
        """Whether tokens used before count less."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0)


def parse(text: str | bytes) -> Sampling:
    """Returns the Sampling that a JSON object describes. Raises BadSampling naming the parameter at fault."""
    try:
        given = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise BadSampling(f"sampling_parameters is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise BadSampling("sampling_parameters must be a JSON object")
    values = cast(dict[str, Any], given)
    if values.get("n") not in (None, 1, "1"):
        raise BadSampling("n must be 1: send the request as often as answers are wanted")
    if (older := values.pop("guided_decoding", None)) is not None:  # the name before vLLM 0.12
        values["structured_outputs"] = older
    unknown = set(values) - NAMES - IGNORED - {"n"}
    if unknown:
        raise BadSampling(f"unknown sampling parameter {sorted(unknown)[0]!r}; known are {', '.join(sorted(NAMES))}")
    wanted = {
        name: value for name, value in values.items() if name in NAMES and (value is not None or name == "max_tokens")
    }
    return Sampling(**{name: READERS[name](name, value) for name, value in wanted.items()})


def _integer(low: int, high: int = 2**31 - 1) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            raise BadSampling(f"{name} must be a whole number, not {value!r}") from None
        if (
            isinstance(value, bool)
            or (isinstance(value, float) and not value.is_integer())
            or not low <= number <= high
        ):
            raise BadSampling(f"{name} must be a whole number from {low} to {high}, not {value!r}")
        return number

    return read


def _real(low: float, high: float, *, open_low: bool = False) -> Callable[[str, Any], float]:
    def read(name: str, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise BadSampling(f"{name} must be a number, not {value!r}") from None
        inside = math.isfinite(number) and low <= number <= high and not (open_low and number == low)
        if isinstance(value, bool) or not inside:
            raise BadSampling(
                f"{name} must be {'above' if open_low else 'from'} {low:g} and at most {high:g}, not {value!r}"
            )
        return number

    return read


def _flag(name: str, value: Any) -> bool:
    known: dict[Any, bool] = {True: True, False: False, "true": True, "false": False}
    if not isinstance(value, bool | str) or (value if isinstance(value, bool) else value.lower()) not in known:
        raise BadSampling(f"{name} must be true or false, not {value!r}")
    return known[value if isinstance(value, bool) else value.lower()]


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadSampling(f"{name} must be a non-empty string, not {value!r}")
    return value


def _stops(name: str, value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if (
        not isinstance(given, list)
        or len(cast(list[Any], given)) > MAX_STOPS
        or not all(isinstance(stop, str) and stop for stop in cast(list[Any], given))
    ):
        raise BadSampling(f"{name} must be a non-empty string or a list of at most {MAX_STOPS} of them")
    return tuple(cast(list[str], given))


def _token_ids(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise BadSampling(f"{name} must be a list of token ids")
    return tuple(_integer(0)(name, item) for item in cast(list[Any], value))


def _biases(name: str, value: Any) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, dict):
        raise BadSampling(f"{name} must be an object of token ids and numbers")
    read, add = _integer(0), _real(-100, 100)
    return tuple((read(name, token), add(name, bias)) for token, bias in cast(dict[str, Any], value).items())


def _grammar(name: str, value: Any) -> str:
    """The parameter is JSON text, as the Triton backend of vLLM reads it."""
    try:
        given = json.loads(value) if isinstance(value, str) else value
        if not isinstance(given, dict):
            raise GrammarRefused("give an object")
        return grammar(cast(dict[str, Any], given))
    except (ValueError, RecursionError) as error:
        raise BadSampling(f"{name}: {error}") from None


def _optional(read: Callable[[str, Any], int]) -> Callable[[str, Any], int | None]:
    return lambda name, value: None if value is None else read(name, value)


READERS: dict[str, Callable[[str, Any], Any]] = {
    "max_tokens": _optional(_integer(1)),
    "min_tokens": _integer(0),
    "temperature": _real(0, 100),
    "top_p": _real(0, 1, open_low=True),
    "top_k": _integer(-1),
    "min_p": _real(0, 1),
    "presence_penalty": _real(-2, 2),
    "frequency_penalty": _real(-2, 2),
    "repetition_penalty": _real(0, 100, open_low=True),
    "logit_bias": _biases,
    "logprobs": _optional(_integer(0, MAX_LOGPROBS)),
    "prompt_logprobs": _optional(_integer(0, MAX_LOGPROBS)),
    "seed": _integer(-(2**63), 2**63 - 1),
    "stop": _stops,
    "stop_token_ids": _token_ids,
    "include_stop_str_in_output": _flag,
    "ignore_eos": _flag,
    "skip_special_tokens": _flag,
    "structured_outputs": _grammar,
    "lora_name": _word,
}
NAMES = {field.name for field in fields(Sampling)}
