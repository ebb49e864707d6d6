"""A causal language model that prefills one row and decodes all of them.

Any model of transformers with full attention over the AttentionInterface will do; what it cannot serve it refuses.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from services.lm.adapters import Adapter
from services.lm.device import cores, default_device, named_dtype
from services.lm.lora_linear import Active, can_pack, install
from services.serving.triton.backend.kv_cache import ATTENTION, KVCache


class ModelUnsuitable(ValueError):
    """This backend cannot serve the model; the message says why."""


@dataclass(slots=True)
class Decoder:
    """A loaded model with `max_num_seqs` slots of `max_model_len` tokens; call it in torch.inference_mode()."""

    model: PreTrainedModel
    slots: KVCache
    active: Active
    modules: dict[str, tuple[int, int]]
    max_model_len: int
    like: torch.Tensor  # empty, of the weights' dtype and device

    @property
    def device(self) -> torch.device:
        """Where tensors go."""
        return self.like.device

    @property
    def vocabulary(self) -> int:
        """Number of tokens that have logits."""
        return int(self.model.config.vocab_size)

    def prefill(self, slot: int, prompt: Sequence[int], adapter: Adapter | None) -> torch.Tensor:
        """Reads a prompt into `slot`; returns the logits (1, vocabulary) of the token after it."""
        self.active.use([adapter])
        self.slots.prefill(slot, len(prompt))
        tokens = torch.tensor([list(prompt)], device=self.device)
        return self._forward(tokens, torch.arange(len(prompt), device=self.device)[None], None)

    def step(self, tokens: Sequence[int], lengths: Sequence[int], adapters: Sequence[Adapter | None]) -> torch.Tensor:
        """Reads the newest token of each slot 0..n-1, whose position is `lengths`; returns logits (n, vocabulary)."""
        self.active.use(adapters)
        positions = torch.tensor(lengths, device=self.device)
        seen = self.slots.decode(positions, max(lengths) + 1)
        mask = (torch.arange(seen, device=self.device) <= positions[:, None])[:, None, None]
        return self._forward(torch.tensor(tokens, device=self.device)[:, None], positions[:, None], mask)

    def _forward(self, tokens: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        out = self.model(input_ids=tokens, position_ids=positions, attention_mask=mask, past_key_values=self.slots,
                         use_cache=True, logits_to_keep=1)  # fmt: skip
        return out.logits[:, -1]


def load(path: Path, args: dict[str, Any]) -> Decoder:
    """Loads the safetensors model in `path` by vLLM's engine arguments. Raises ModelUnsuitable, OSError."""
    if not path.is_dir():
        raise ModelUnsuitable(f"model.json names {path} as the model, and there is no such directory")
    torch.set_num_threads(threads())
    device = torch.device(default_device())
    dtype = choose_dtype(str(args.get("dtype", "auto")), device.type)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation=ATTENTION, local_files_only=True, use_safetensors=True
        )
    except KeyError as error:
        if error.args != (ATTENTION,):
            raise
        raise ModelUnsuitable(
            f"{path.name} attends by code of its own and not through transformers' AttentionInterface:"
            " serve it with Triton's own vLLM backend"
        ) from None
    _check(model.config)
    limit = _context(model.config, args.get("max_model_len"))
    model.to(device=device)
    model.eval().requires_grad_(False)
    rows = int(args.get("max_num_seqs", 8))
    active = Active(rows)
    modules = install(model, active, packed=can_pack(dtype, device))
    return Decoder(model, KVCache(rows, limit), active, modules, limit, torch.empty(0, dtype=dtype, device=device))


def threads() -> int:
    """Half of the cores unless NORIA_TRITON_THREADS says more: two threads on two busy cores were 7 to 50 times slower."""
    return int(os.environ.get("NORIA_TRITON_THREADS") or max(1, cores() // 2))


def choose_dtype(name: str, device: str) -> torch.dtype:
    """The dtype that model.json asks for. Raises ModelUnsuitable."""
    try:
        return named_dtype(name, device)
    except ValueError as error:
        raise ModelUnsuitable(f"model.json: {error}") from None


def _check(config: Any) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    if kinds or getattr(config, "attn_logit_softcapping", None):
        raise ModelUnsuitable(
            f"{config.model_type} attends by {sorted(kinds) or 'soft-capped logits'}: serve it with Triton's own vLLM backend"
        )


def _context(config: Any, wanted: int | str | None) -> int:
    most = int(getattr(config, "max_position_embeddings", 0) or 2048)
    window = getattr(config, "sliding_window", None)
    limit = min(most, int(window)) if window and getattr(config, "use_sliding_window", True) else most
    if wanted is not None and int(wanted) > limit:
        raise ModelUnsuitable(f"model.json: max_model_len {wanted} is above the model's {limit}")
    return int(wanted or limit)
