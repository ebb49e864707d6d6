"""LoRA adapters on disk, as PEFT writes them (https://huggingface.co/docs/peft/developer_guides/checkpoint)."""

import json
import re
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
WEIGHTS = "adapter_model.safetensors"
REFUSED = {
    "use_dora": "DoRA",
    "modules_to_save": "modules_to_save",
    "trainable_token_indices": "trainable tokens",
    "layer_replication": "layer replication",
    "alora_invocation_tokens": "activated LoRA",
}


class AdapterInvalid(ValueError):
    """The directory of an adapter cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """One LoRA: module name -> (A (rank, in), B (out, rank), the scale already in B)."""

    name: str
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]
    serial: int = field(default_factory=count(1).__next__)
    """Never another adapter's in this process, unlike id() of one that is gone."""


def read_adapter(
    name: str, path: Path, *, modules: dict[str, tuple[int, int]], max_rank: int, like: torch.Tensor
) -> Adapter:
    """Returns the adapter in `path`, on the device and in the dtype of `like`.

    `modules` maps each linear module of the model to (out, in) features. Raises AdapterInvalid.
    """
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(path / WEIGHTS)
    except (OSError, ValueError) as error:
        raise AdapterInvalid(f"adapter {name}: {path} cannot be read: {error}") from error
    except Exception as error:  # safetensors raises its own class, which is no ValueError
        raise AdapterInvalid(f"adapter {name}: {path / WEIGHTS} is not safetensors: {error}") from error
    _check(name, config)
    pairs = {module: _read_pair(name, module, tensors, config, like) for module in _modules_in(name, tensors)}
    for module, (a, b) in pairs.items():
        if modules.get(module) != (len(b), a.shape[1]):
            raise AdapterInvalid(
                f"adapter {name}: {module} does not fit the base model; was it trained on another base?"
            )
        if len(a) > max_rank:
            raise AdapterInvalid(f"adapter {name}: rank {len(a)} is above max_lora_rank {max_rank}")
    return Adapter(name, pairs)


def _check(name: str, config: dict[str, Any]) -> None:
    if config.get("peft_type", "LORA") != "LORA":
        raise AdapterInvalid(f"adapter {name}: peft_type is {config['peft_type']}, not LORA")
    for key, what in REFUSED.items():
        if config.get(key):
            raise AdapterInvalid(
                f"adapter {name}: {what} cannot be served as an adapter; merge it into a model of its own"
            )
    if config.get("bias", "none") != "none":
        raise AdapterInvalid(f"adapter {name}: bias must be none")


def _modules_in(name: str, tensors: dict[str, torch.Tensor]) -> list[str]:
    modules: list[str] = []
    for key in tensors:
        module, lora, kind = key.removeprefix(PREFIX).partition(".lora_")
        if not lora or kind not in ("A.weight", "B.weight"):
            raise AdapterInvalid(f"adapter {name}: tensor {key} is not a LoRA weight of a linear module")
        if kind == "A.weight":
            modules.append(module)
    return modules


def _read_pair(name: str, module: str, tensors: dict[str, torch.Tensor], config: dict[str, Any],
              like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    a, b = (tensors.get(f"{PREFIX}{module}.lora_{side}.weight") for side in "AB")
    if a is None or b is None or a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1]:
        raise AdapterInvalid(f"adapter {name}: {module} lacks one of its two matrices, or they do not fit each other")
    alpha = next((value for pattern, value in (config.get("alpha_pattern") or {}).items()
                  if re.match(rf"(.*\.)?({pattern})$", module)), config.get("lora_alpha", 8))  # fmt: skip
    scale = alpha / (len(a) ** 0.5 if config.get("use_rslora") else len(a))
    return a.to(like).contiguous(), (b.float() * scale).to(like).contiguous()
