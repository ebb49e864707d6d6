"""A causal language model that in one pass reads a token of each running row and pieces of prompts.

Any model of transformers with full attention over the AttentionInterface will do; what it cannot serve it refuses.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from services.lm.adapters import Adapter
from services.lm.device import cores, default_device, memory_for_cache, named_dtype
from services.lm.linear_product import can_pack
from services.lm.lora_linear import Active, install
from services.serving.triton.backend.kv_cache import ATTENTION, KVCache, Prompt


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
    room: int = 0  # tokens whose keys and values there is memory for

    @property
    def device(self) -> torch.device:
        """Where tensors go."""
        return self.like.device

    @property
    def vocabulary(self) -> int:
        """Number of tokens that have logits."""
        return int(self.model.config.vocab_size)

    def run(
        self,
        tokens: Sequence[int],
        lengths: Sequence[int],
        adapters: Sequence[Adapter | None],
        *,
        first: int = 0,
        pieces: "Sequence[Piece]" = (),
    ) -> torch.Tensor:
        """One pass: reads the newest token of each slot from `first` on, at position `lengths`, and pieces of prompts.

        Returns logits (rows + pieces, vocabulary): after each row's token, then after each piece's last one.
        """
        self.active.use(adapters, [(each.adapter, [stop - start for start, stop in each.blocks]) for each in pieces])
        self.slots.begin(first, lengths, self.device, [(each.prompt, each.blocks) for each in pieces])
        read = [*tokens, *(token for each in pieces for token in each.tokens[each.start : each.stop])]
        places = [*lengths, *(place for each in pieces for place in range(each.start, each.stop))]
        ends = list(accumulate((each.stop - each.start for each in pieces), initial=len(tokens)))
        spans = [
            range(start if each.scored else end - 1, end)
            for each, (start, end) in zip(pieces, pairwise(ends), strict=True)
        ]
        kept = [*range(len(tokens)), *(place for span in spans for place in span)]
        out = self.model(
            input_ids=torch.tensor([read], device=self.device),
            position_ids=torch.tensor([places], device=self.device),
            past_key_values=self.slots,
            use_cache=True,
            logits_to_keep=torch.tensor(kept, device=self.device),
        )
        for each in pieces:
            each.prompt.read = each.stop
        return self._last(out.logits[0], len(tokens), pieces, [len(span) for span in spans])

    def _last(self, logits: torch.Tensor, rows: int, pieces: "Sequence[Piece]", sizes: Sequence[int]) -> torch.Tensor:
        """Logits of rows and after each piece's last token; pieces that want those of all their tokens are told."""
        ends = list(accumulate(sizes, initial=rows))
        for each, (start, end) in zip(pieces, pairwise(ends), strict=True):
            if each.scored is not None:
                each.scored(each.start, logits[start:end])
        return logits if len(logits) == rows + len(pieces) else logits[[*range(rows), *(end - 1 for end in ends[1:])]]

    def bytes_a_token(self) -> int:
        """Memory that one token's keys and values take."""
        config: Any = self.model.config
        heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        features = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        return 2 * int(config.num_hidden_layers) * heads * features * self.like.element_size()


@dataclass(frozen=True, slots=True)
class Piece:
    """Blocks of a prompt that a pass reads (pieces.py); what was read before is in `prompt`."""

    tokens: Sequence[int]
    adapter: Adapter | None
    prompt: Prompt
    blocks: Sequence[tuple[int, int]]
    scored: Callable[[int, torch.Tensor], None] | None = None
    """Told of the logits (tokens, vocabulary) after each of its tokens, and where it starts."""

    @property
    def start(self) -> int:
        """Where it begins in the prompt."""
        return self.blocks[0][0]

    @property
    def stop(self) -> int:
        """And where it ends."""
        return self.blocks[-1][1]


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
    rows = int(args.get("max_num_seqs", 32))
    active = Active()
    modules = install(model, active, packed=can_pack(dtype, device))
    made = Decoder(model, KVCache(rows, limit), active, modules, limit, torch.empty(0, dtype=dtype, device=device))
    made.room = int(args.get("kv_cache_memory_bytes") or room_for_cache(device.type)) // made.bytes_a_token()
    return made


def room_for_cache(device: str) -> int:
    """Bytes that keys and values may take unless model.json says kv_cache_memory_bytes: a quarter of what is free now."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] // 4
    return max(memory_for_cache(device), os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)


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
