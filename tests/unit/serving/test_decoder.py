"""What the bundled backend cannot serve it refuses, and says what can."""

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, GPTNeoConfig

from services.serving.triton.backend import decoder
from tests.lm_bases import make_base


def test_a_model_that_attends_by_code_of_its_own_is_refused(tmp_path: Path) -> None:
    base = make_base("gpt2", tmp_path / "base", weights=True)
    config = GPTNeoConfig(
        vocab_size=AutoConfig.from_pretrained(base).vocab_size,
        hidden_size=32,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        num_heads=2,
        max_position_embeddings=256,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    with pytest.raises(decoder.ModelUnsuitable, match=r"code of its own .* vLLM"):
        decoder.load(base, {})
