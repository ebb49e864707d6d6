"""Turns the packaged GGUF of SmolLM2-135M-Instruct into a Hugging Face model directory. Downloads nothing.

`python -m compose.local.base_model FILE.gguf DIRECTORY`. The GGUF holds the published weights quantised to four bits
(Q4_1); dequantised they are kept as bfloat16, whose rounding is far below the quantisation's own error.
"""

import sys
from pathlib import Path
from typing import Any

NAME = "smollm2-135m-instruct"


def convert(gguf_file: Path, directory: Path) -> None:
    """Writes configuration, tokenizer, chat template and `model.safetensors` (bfloat16) into `directory`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    where = {"pretrained_model_name_or_path": gguf_file.parent, "gguf_file": gguf_file.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(**where)
    quantised: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # save_pretrained refuses a model that says it is quantised
    config.dtype = torch.bfloat16
    model: Any = LlamaForCausalLM(config)
    model.load_state_dict(quantised.state_dict())
    model.to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
