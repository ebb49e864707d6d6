"""Opens the model of a repository's version directory and turns prompts into the engine's requests; no Triton here."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from services.lm.adapters import Adapter
from services.lm.template import Rendered
from services.lm.tokens import TextTokenizer, open_tokenizer
from services.serving.triton.backend import decoder
from services.serving.triton.backend.adapter_cache import AdapterCache
from services.serving.triton.backend.constraints import Constrainer, Constraint, ConstraintBroken
from services.serving.triton.backend.engine import Engine
from services.serving.triton.backend.rows import Listener, Request, Tokens
from services.serving.triton.backend.sampling_parameters import BadSampling, parse

ENCODED = 8
LOADED_ADAPTERS = 32  # unless model.json says max_cpu_loras


class PromptTooLong(ValueError):
    """The prompt leaves no room for an answer."""


@dataclass(slots=True)
class Served:
    """A model that answers."""

    engine: Engine
    text: TextTokenizer
    adapters: AdapterCache | None
    constrainer: Constrainer
    summary: str
    encode: Callable[[Rendered], list[int]] = field(init=False)
    """The tokens of a text; the choices of one request have the same."""

    def __post_init__(self) -> None:
        """Keeps the tokens of the last texts."""
        self.encode = lru_cache(ENCODED)(self.text.encode)

    def request(
        self,
        prompt: str,
        sampling: str | None,
        parameters: str,
        listener: Listener,
        *,
        marked: bool = False,
        ids: str | None = None,
    ) -> Request:
        """Returns the request to submit.

        `ids` is the JSON text of a prompt's tokens, which are taken as they are; `prompt` is empty then.
        `parameters` are Triton's request parameters as JSON; without the tensor `sampling` they are the sampling parameters.

        Raises:
            BadSampling, PromptTooLong, ControlTokens, AdapterUnknown, AdapterInvalid: the request cannot be honoured.
        """
        given: dict[str, Any] = json.loads(parameters or "{}")
        plain = given.pop("add_special_tokens", True) not in (False, "false")
        wanted = parse(json.dumps(given) if sampling is None else sampling)
        adapter = self._adapter(wanted.lora_name)
        tokens = self.encode(Rendered(prompt, marked, plain)) if ids is None else self._tokens(ids)
        limit = self.engine.decoder.max_model_len
        if not tokens:
            raise BadSampling("text_input is empty: there is nothing to continue")
        if len(tokens) >= limit:
            raise PromptTooLong(
                f"the prompt has {len(tokens)} tokens and the model's context (max_model_len) is {limit}; shorten it"
            )
        if any(token >= self.engine.decoder.vocabulary for token in wanted.stop_token_ids):
            raise BadSampling(f"stop_token_ids must be below the vocabulary's {self.engine.decoder.vocabulary}")
        if any(token >= self.engine.decoder.vocabulary for token, _ in wanted.logit_bias):
            raise BadSampling(f"logit_bias names tokens below the vocabulary's {self.engine.decoder.vocabulary} alone")
        lead = "" if plain else self.text.lead
        return Request(tokens, wanted, adapter, listener, lead, self._constraint(wanted.structured_outputs))

    def _tokens(self, ids: str) -> list[int]:
        given: Any = json.loads(ids)
        most = self.engine.decoder.vocabulary
        if not isinstance(given, list) or not all(type(i) is int and 0 <= i < most for i in cast(list[Any], given)):
            raise BadSampling(f"prompt_token_ids must be whole numbers from 0 and below the vocabulary's {most}")
        return cast(list[int], given)

    def _constraint(self, grammar: str | None) -> Constraint | None:
        try:
            return None if grammar is None else self.constrainer.constraint(grammar)
        except ConstraintBroken as error:
            raise BadSampling(f"structured_outputs: {error}") from None

    def _adapter(self, name: str | None) -> Adapter | None:
        if name is None:
            return None
        if self.adapters is None:
            raise BadSampling("LoRA feature is not enabled.")
        return self.adapters.get(name)


def open_model(directory: Path, listing: Path | None, log: Callable[[str], None]) -> Served:
    """Loads what `directory`/model.json names and starts its engine.

    `listing` is the list of adapters; `directory`/multi_lora.json without it, as for vLLM's own backend.

    Raises:
        ValueError, OSError: what is wrong.
    """
    args: dict[str, Any] = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    path = Path(args["model"])
    model = decoder.load(path, args)
    text = open_tokenizer(Path(args.get("tokenizer", path)))
    adapters = None
    if str(args.get("enable_lora", False)).lower() == "true":
        # On a CPU in fp32 whatever the model's: a small product costs oneDNN's bf16 15 us and MKL's fp32 3.
        like = model.like.float() if model.like.device.type == "cpu" else model.like
        adapters = AdapterCache(listing or directory / "multi_lora.json", model.modules, int(args.get("max_lora_rank", 16)), like,
                      int(args.get("max_cpu_loras") or LOADED_ADAPTERS))  # fmt: skip
        adapters.refresh()
    engine = Engine(model, Tokens(lambda ids, skip: text.decode(ids, skip_special=skip), tuple(sorted(text.ends))), log)
    engine.start()
    summary = (
        f"{path} in {model.like.dtype} on {model.like.device}, {model.slots.rows} rows of {model.max_model_len} tokens"
    )
    constrainer = Constrainer(text, model.vocabulary, sorted(text.ends))
    return Served(engine, text, adapters, constrainer, summary)
