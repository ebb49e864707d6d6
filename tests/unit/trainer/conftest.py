"""A tiny random Llama with a tiny tokenizer and datasets beside it: everything real, nothing downloaded."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from contracts.project import Adapter, Prompt, Train
from services.trainer.domain.spec import TrainSpec

TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory: four layers of width 32, bytes as tokens."""
    directory = tmp_path_factory.mktemp("base") / "tiny"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(["<s>", "</s>", *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def write_split() -> Callable[[Path, list[tuple[str, str]]], Path]:
    """Writes a Parquet file with the columns of a dataset's split that the trainer reads."""

    def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
        records = [json.dumps({"prompt": prompt, "completion": completion}) for prompt, completion in pairs]
        digests = [f"{i:04d}" for i in range(len(pairs))]
        table = pa.table({"digest": pa.array(digests, pa.string()), "record": pa.array(records, pa.string())})
        pq.write_table(table, path)
        return path

    return write


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NORIA_CACHE of all tests here, so that this machine is measured once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_spec(base: Path, tmp_path: Path, cache: Path, write_split: Callable[..., Path]) -> Callable[..., TrainSpec]:
    """Builds a spec on the tiny base; keywords override the recipe's."""
    pairs = [(f"list {'x' * (i % 7)}{i}", f"ls {'-' * (i % 5)}{i}") for i in range(14)]
    train = write_split(tmp_path / "train.parquet", pairs[:11])
    validation = write_split(tmp_path / "validation.parquet", pairs[11:])

    def build(*, adapter: Adapter | None = None, **recipe: object) -> TrainSpec:
        fields: dict[str, object] = {"epochs": 2, "batch_size": 4, "max_length": 96, "learning_rate": 1e-2, **recipe}
        chosen = adapter or Adapter(r=4, layers_to_transform=(2, 3))
        return TrainSpec(
            base=base,
            base_name="tiny",
            train=train,
            validation=validation,
            prompt=Prompt(system="Answer briefly."),
            recipe=Train.model_validate({**fields, "adapter": chosen}),
            cache=cache,
        )

    return build
