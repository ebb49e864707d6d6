"""Opens the model of a repository's version directory and turns prompts into the engine's requests; no Triton here."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from services.serving.triton.backend import decoder
from services.serving.triton.backend.adapters import Adapter, AdapterCache
from services.serving.triton.backend.engine import Engine, Listener, Request, Tokens
from services.serving.triton.backend.sampling_parameters import BadSampling, parse

LOADED_ADAPTERS = 32  # unless model.json says max_cpu_loras


class PromptTooLong(ValueError):
    """The prompt leaves no room for an answer."""


@dataclass(slots=True)
class Served:
    """A model that answers."""

    engine: Engine
    encode: Callable[[str], list[int]]
    shelf: AdapterCache | None
    summary: str

    def request(self, prompt: str, sampling: str, listener: Listener) -> Request:
        """Returns the request to submit. Raises BadSampling, PromptTooLong, AdapterUnknown, AdapterInvalid."""
        wishes = parse(sampling)
        adapter = self._adapter(wishes.lora_name)
        tokens, limit = self.encode(prompt), self.engine.decoder.max_model_len
        if not tokens:
            raise BadSampling("text_input is empty: there is nothing to continue")
        if len(tokens) >= limit:
            raise PromptTooLong(
                f"the prompt has {len(tokens)} tokens and the model's context (max_model_len) is {limit}; shorten it"
            )
        if any(token >= self.engine.decoder.vocabulary for token in wishes.stop_token_ids):
            raise BadSampling(f"stop_token_ids must be below the vocabulary's {self.engine.decoder.vocabulary}")
        return Request(tokens, wishes, adapter, listener)

    def _adapter(self, name: str | None) -> Adapter | None:
        if name is None:
            return None
        if self.shelf is None:
            raise BadSampling("LoRA feature is not enabled.")
        return self.shelf.get(name)


def open_model(directory: Path, log: Callable[[str], None]) -> Served:
    """Loads what `directory`/model.json names and starts its engine. Raises ValueError, OSError saying what is wrong."""
    args: dict[str, Any] = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    path = Path(args["model"])
    model = decoder.load(path, args)
    tokenizer: Any = AutoTokenizer.from_pretrained(args.get("tokenizer", path), local_files_only=True)
    shelf = None
    if str(args.get("enable_lora", False)).lower() == "true":
        # On a CPU in fp32 whatever the model's: a small product costs oneDNN's bf16 15 us and MKL's fp32 3.
        like = model.like.float() if model.like.device.type == "cpu" else model.like
        shelf = AdapterCache(directory / "multi_lora.json", model.modules, int(args.get("max_lora_rank", 16)), like,
                      int(args.get("max_cpu_loras") or LOADED_ADAPTERS))  # fmt: skip
        shelf.refresh()
    engine = Engine(model, Tokens(decode_with(tokenizer), ends(model, tokenizer)), log)
    engine.start()
    summary = (
        f"{path} in {model.like.dtype} on {model.like.device}, {model.slots.rows} rows of {model.max_model_len} tokens"
    )
    return Served(engine, lambda prompt: tokenizer.encode(prompt), shelf, summary)


def decode_with(tokenizer: Any) -> Callable[[Sequence[int], bool], str]:
    """Returns (tokens, skip special ones) -> text as it stands, no space tidied away."""

    def decode(tokens: Sequence[int], skip: bool) -> str:
        return tokenizer.decode(list(tokens), skip_special_tokens=skip, clean_up_tokenization_spaces=False)

    return decode


def ends(model: decoder.Decoder, tokenizer: Any) -> tuple[int, ...]:
    """Returns the tokens that end an answer, by the generation config and the tokenizer."""
    configured: int | list[int] | None = getattr(model.model.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    return tuple(sorted({token for token in (*several, tokenizer.eos_token_id) if token is not None}))
