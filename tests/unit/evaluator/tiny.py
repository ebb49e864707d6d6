"""A tiny random Llama with a byte-level tokenizer and a chat template, LoRA adapters for it, and rows to measure it on."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Json = dict[str, Any]
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def make_base(path: Path, seed: int = 0) -> Path:
    alphabet = {sign: number for number, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**alphabet, "<s>": 256, "</s>": 257}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(path)
    model(seed).save_pretrained(path)
    return path


def model(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=258,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            bos_token_id=256,
            eos_token_id=257,
            initializer_range=0.3,
        )
    )


def make_adapter(path: Path, base: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    wrapped = get_peft_model(
        LlamaForCausalLM.from_pretrained(base),
        LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    )
    wrapped.save_pretrained(str(path))
    return path


def write_split(
    path: Path, pairs: list[tuple[str, str]], extra: tuple[Json, ...] = (), tags: tuple[Json, ...] | None = None
) -> Path:
    records: list[Json] = [
        {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]}
        for ask, answer in pairs
    ]
    records += extra
    rows = [{"record_id": f"r{i}", "record": json.dumps(record)} for i, record in enumerate(records)]
    schema = pa.schema([("record_id", pa.string()), ("record", pa.string())])
    if tags is not None:
        schema = schema.append(pa.field("tags", pa.string()))
        rows = [{**row, "tags": json.dumps(of)} for row, of in zip(rows, tags, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path
