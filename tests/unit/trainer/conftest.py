"""A tiny random Llama with a tiny tokenizer and datasets beside it: everything real, nothing downloaded."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from contracts.project import Adapter, Prompt, Train
from services.chassis.storage.artifacts import ArtifactStore, open_store
from services.trainer.domain.spec import TrainSpec
from services.trainer.settings import TrainerSettings

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

    def write(path: Path, rows: Sequence[tuple[str, str] | dict[str, Any]]) -> Path:
        given = [row if isinstance(row, dict) else {"prompt": row[0], "completion": row[1]} for row in rows]
        records = [json.dumps(record) for record in given]
        digests = [f"{i:04d}" for i in range(len(rows))]
        table = pa.table({"digest": pa.array(digests, pa.string()), "record": pa.array(records, pa.string())})
        pq.write_table(table, path)
        return path

    return write


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NORIA_CACHE of all tests here, so that this machine is measured once."""
    return tmp_path_factory.mktemp("cache")


def examples(methods: Sequence[str]) -> list[dict[str, Any]]:
    """14 records: of sft each of them a completion, else every third one; the others are what the methods prefer by."""
    found: list[dict[str, Any]] = []
    for i in range(14):
        prompt, answer, other = f"list {'x' * (i % 7)}{i}", f"ls {'-' * (i % 5)}{i}", f"dir{i % 3}"
        if tuple(methods) == ("sft",) or i % 3 == 2:
            found.append({"prompt": prompt, "completion": answer})
        elif methods[-1] == "kto" and i % 3 == 1:
            found.append({"prompt": prompt, "completion": answer if i % 2 else other, "label": bool(i % 2)})
        else:
            found.append({"prompt": prompt, "chosen": answer, "rejected": other})
    return found


@pytest.fixture
def artifacts(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    """The store of a home of its own, as the trainer's jobs open it."""
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NORIA_CACHE", str(cache))
    return open_store(TrainerSettings())


@pytest.fixture
def make_spec(base: Path, tmp_path: Path, cache: Path, write_split: Callable[..., Path]) -> Callable[..., TrainSpec]:
    """Builds a spec on the tiny base; keywords override the recipe's. With stages the records are what these learn from."""

    def build(*, adapter: Adapter | None = None, stages: Sequence[str] = ("sft",), **recipe: Any) -> TrainSpec:
        rows = examples(stages)
        train = write_split(tmp_path / f"{'-'.join(stages)}-train.parquet", rows[:11])
        validation = write_split(tmp_path / f"{'-'.join(stages)}-validation.parquet", rows[11:])
        fields: dict[str, object] = {"epochs": 2, "batch_size": 4, "max_length": 96, "learning_rate": 1e-2}
        fields |= {"stages": stages, **recipe}
        own = {"epochs": fields["epochs"], "learning_rate": fields["learning_rate"]}
        fields["preference"] = own | recipe.get("preference", {})
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
