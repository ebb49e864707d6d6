"""A causal language model to be measured: loaded from safetensors, with or without an adapter on it."""

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from services.evaluator.domain.failures import ModelInvalid
from services.lm.adapters import WEIGHTS
from services.lm.errors import LanguageModelError
from services.lm.tokens import TextTokenizer, open_tokenizer

CONTEXT = 1_000_000
"""Tokens a model is taken to read where its configuration does not say."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to answer, in evaluation mode, with its tokenizer."""

    model: Any
    text: TextTokenizer
    device: str

    @property
    def ends(self) -> frozenset[int]:
        """Token ids that end an answer."""
        return self.text.ends

    @property
    def pad(self) -> int:
        """Id that fills rows; it is masked, so any will do."""
        return self.text.pad

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
        inner = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        takes = inspect.signature(inner.forward).parameters
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
    return Loaded(model.to(device).eval(), text, device)


@contextmanager
def adapted(base: Loaded, directory: Path) -> Generator[Loaded]:
    """`base` with the LoRA adapter of `directory` on it; afterwards it is bare again.

    Raises:
        ModelInvalid: the directory holds no adapter of this base.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (directory / WEIGHTS).is_file():  # peft would look for a pickle instead
        raise ModelInvalid(
            "the adapter has no adapter_model.safetensors; pickled weights are not read: convert it first"
        )
    try:
        model: Any = PeftModel.from_pretrained(base.model, directory, torch_device=base.device).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if "memory" in str(error):
            raise
        raise ModelInvalid(f"peft cannot put the adapter on its base: {error}"[:800]) from error
    try:
        yield Loaded(model, base.text, base.device)
    finally:
        model.unload()
