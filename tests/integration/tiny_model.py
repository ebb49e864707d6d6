"""A tiny random Llama with a byte-level tokenizer, and random LoRA adapters for it: made in a second, for tests."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LAYERS, HIDDEN, INNER = 2, 64, 128
CONTEXT = 100_000  # tokens: an answer of this length takes minutes


def make_base(path: Path, seed: int = 0) -> Path:
    tokenizer = Tokenizer(models.BPE(vocab={**{c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))},
                                            "<s>": 256, "</s>": 257}, merges=[]))  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(path)
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=258, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
                         bos_token_id=256, eos_token_id=257, initializer_range=0.3)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def make_adapter(path: Path, seed: int, rank: int = 4, hidden: int = HIDDEN) -> Path:
    """Writes a LoRA as PEFT does, on q, v and down of every layer; `hidden` other than HIDDEN fits no base."""
    path.mkdir(parents=True)
    chance = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(LAYERS):
        for module, inside, outside in (
            ("self_attn.q_proj", hidden, HIDDEN),
            ("self_attn.v_proj", hidden, 32),
            ("mlp.down_proj", INNER, HIDDEN),
        ):
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, inside, generator=chance) * 0.3
            tensors[f"{name}.lora_B.weight"] = torch.randn(outside, rank, generator=chance) * 0.3
    save_file(tensors, path / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj", "v_proj", "down_proj"],
    }
    (path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


def answered_by_peft(base: Path, adapter: Path | None, prompt: str, tokens: int) -> str:
    """The greedy answer of transformers and peft themselves, in float32."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    asked = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        given = model.eval().generate(
            **asked, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=257
        )
    return str(tokenizer.decode(given[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))
