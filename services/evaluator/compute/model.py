"""A causal language model to be measured: loaded from safetensors, with or without an adapter on it."""

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from services.evaluator.domain.failures import ModelInvalid
from services.lm.adapters import AdapterInvalid, read_adapter
from services.lm.errors import LanguageModelError
from services.lm.linear_product import can_pack
from services.lm.lora_linear import Active, install
from services.lm.tokens import TextTokenizer, open_tokenizer

CONTEXT = 1_000_000
"""Tokens a model is taken to read where its configuration does not say."""
ANY_RANK = 2**31


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to answer, in evaluation mode, with its tokenizer."""

    model: Any
    text: TextTokenizer
    device: str
    active: Active
    modules: dict[str, tuple[int, int]]
    """(out, in) features of every linear layer, each of which adds the adapter that is active."""
    shares_prompts: bool = False
    """Whether keys and values of a prompt can be taken over by other rows and put beside those of others."""

    @property
    def ends(self) -> frozenset[int]:
        """Token ids that end an answer."""
        return self.text.ends

    @property
    def context(self) -> int:
        """Most tokens that the model reads."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or CONTEXT)

    @property
    def bytes_a_token(self) -> int:
        """Memory of the keys and values of one token, in bytes."""
        config = self.model.config
        heads = int(config.num_attention_heads)
        width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        kept = int(getattr(config, "num_key_value_heads", None) or heads)
        return 2 * int(config.num_hidden_layers) * kept * width * self.model.dtype.itemsize

    def logits(self, *, keep: int, **inputs: Any) -> Any:
        """One pass; `.logits` is (rows, keep, vocabulary) for the last `keep` positions."""
        takes = inspect.signature(self.model.forward).parameters
        if "position_ids" not in takes:
            inputs.pop("position_ids", None)
        if "logits_to_keep" in takes:
            inputs["logits_to_keep"] = keep
        out: Any = self.model(**inputs)
        out.logits = out.logits[:, -keep:]
        return out


def open_text(directory: Path) -> TextTokenizer:
    """The tokenizer of the model in `directory`, with its chat template.

    Raises:
        ModelInvalid: the directory holds none.
    """
    try:
        return open_tokenizer(directory)
    except LanguageModelError as error:
        raise ModelInvalid(str(error)) from error


def load(directory: Path, device: str, dtype: torch.dtype) -> Loaded:
    """The model in `directory`; its own code is never run and pickled weights are never read.

    Raises:
        ModelInvalid: the directory holds no such model.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    text = open_text(directory)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelInvalid(f"transformers cannot load the model: {error}"[:800]) from error
    model.to(device).eval().requires_grad_(False)
    active = Active()
    modules = install(model, active, packed=can_pack(dtype, torch.device(device)))
    loaded = Loaded(model, text, device, active, modules)
    return replace(loaded, shares_prompts=_keeps_plain_cache(loaded))


@torch.inference_mode()
def _keeps_plain_cache(loaded: Loaded) -> bool:
    """Whether every layer keeps all keys and values, takes their places from us and looks at all of them.

    Seen by a pass over one token: what a configuration promises is not what each architecture does. A window in the mask alone
    (GPT-Neo) and rotations that depend on the longest row of a pass (dynamic, longrope) do not show there.
    """
    if "position_ids" not in inspect.signature(loaded.model.forward).parameters:
        return False
    config = loaded.model.config
    rotation: dict[str, Any] = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if hasattr(config, "window_size") or rotation.get("rope_type", rotation.get("type")) in ("dynamic", "longrope"):
        return False
    first = torch.zeros((1, 1), dtype=torch.long, device=loaded.device)
    cache = loaded.logits(keep=1, input_ids=first, position_ids=first, use_cache=True).past_key_values
    return type(cache) is DynamicCache and all(
        type(layer) is DynamicLayer and layer.is_initialized for layer in cache.layers
    )


@contextmanager
def adapted(base: Loaded, directory: Path) -> Generator[Loaded]:
    """`base` with the LoRA adapter of `directory` on it, added as serving adds it; afterwards it is bare again.

    Raises:
        ModelInvalid: the directory holds no adapter of this base.
    """
    try:
        adapter = read_adapter(
            directory.name, directory, modules=base.modules, max_rank=ANY_RANK, like=torch.empty(0, device=base.device)
        )
    except AdapterInvalid as error:
        raise ModelInvalid(str(error)) from error
    base.active.use_everywhere(adapter)
    try:
        yield base
    finally:
        base.active.use_everywhere(None)
