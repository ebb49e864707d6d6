"""Parameters of a request by what becomes of them: passed on, ignored, or refused by name. Knows no values' ranges."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.serving.domain.errors import Invalid
from services.serving.domain.part import UNKNOWN, meant
from services.serving.domain.structured import STRUCTURED

EXTRAS = (
    "top_k",
    "min_p",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
    "stop_token_ids",
    "skip_special_tokens",
    "include_stop_str_in_output",
)
"""VLLM's parameters that both backends know under these names (triton/backend/sampling_parameters.py)."""
PENALTIES = ("presence_penalty", "frequency_penalty")
RECORDED = (
    "temperature",
    "top_p",
    "max_tokens",
    "stop",
    "seed",
    *PENALTIES,
    *EXTRAS,
    *STRUCTURED,
    "n",
    "logit_bias",
    "logprobs",
    "top_logprobs",
)
_HARMLESS = frozenset(
    {
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prediction",
        "spaces_between_special_tokens",
    }
)
"""Parameters of OpenAI and vLLM that change no answer here: they are taken and ignored."""
_CHAT_UNOFFERED: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "prompt_logprobs": (),
    "echo": (False,),
    "suffix": ("",),
    "audio": (),
    "modalities": (["text"],),
    "web_search_options": (),
    "reasoning_effort": (),
    "verbosity": (),
    "guided_decoding_backend": (),
    "guided_whitespace_pattern": (),
    "use_beam_search": (False,),
    "length_penalty": (1, 1.0),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "truncate_prompt_tokens": (),
    "prompt_embeds": (),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "add_special_tokens": (),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
}
"""Parameters that are not offered, with the values that ask for nothing; null asks for nothing too."""


@dataclass(frozen=True, slots=True)
class Names:
    """The parameters that an endpoint knows beside those that it takes: what becomes of them."""

    unoffered: Mapping[str, tuple[Any, ...]]
    """Refused, unless with one of these values, which ask for nothing; null does neither."""
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why one is refused, where "not offered" leaves a client without an idea of what to do."""
    ignored: frozenset[str] = frozenset()
    """Beside those that every endpoint ignores."""


CHAT_NAMES = Names(_CHAT_UNOFFERED)


def check_names(raw: Mapping[str, Any], taken: Iterable[str], names: Names = CHAT_NAMES) -> None:
    """Whether every parameter of a body is one of `taken`, harmless, or unoffered with a value that asks for nothing.

    Raises:
        Invalid: naming the first that is not, and what a misspelt one may have meant.
    """
    mine, unoffered = set(taken), names.unoffered
    known = {*mine, *unoffered, *_HARMLESS, *names.ignored}
    for name, value in raw.items():
        if name not in known:
            said = f"Unrecognized request argument: {name[:100]}{meant(name, known)}"
            raise Invalid(said, UNKNOWN, name[:100])
        if value is not None and name in unoffered.keys() - mine and value not in unoffered[name]:
            why = names.reasons.get(name, "leave it out")
            raise Invalid(f"{name} is not offered here; {why}", "unsupported_parameter", name)
