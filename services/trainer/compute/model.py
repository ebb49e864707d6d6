"""The base model with what shall be trained on it: a LoRA adapter of peft, or all its weights. Knows no data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from contracts.project import Adapter
from services.lm.measured import Compute
from services.trainer.domain.failures import BadRecipe, BaseInvalid
from services.trainer.domain.spec import Champion


def load_base(base: Path, dtype: torch.dtype, device: str) -> Any:
    """A causal language model from safetensors; its own code is never run.

    Raises:
        BaseInvalid: the directory holds no such model.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    if not any(base.glob("*.safetensors")):
        raise BaseInvalid(
            f"the base {base.name!r} has no *.safetensors file; pickled weights are not read: convert it first"
        )
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if "memory" in str(error):
            raise
        raise BaseInvalid(f"transformers cannot load the base {base.name!r}: {error}"[:800]) from error
    return model.to(device)


def prepare(base: Path, base_name: str, adapter: Adapter, compute: Compute, champion: Champion | None = None) -> Any:
    """The model in training mode with `requires_grad` on what the recipe trains, as the champion is where one is given.

    With an adapter the frozen weights are in the computing dtype and the adapter in float32; without one all weights are
    float32 masters and autocast chooses the computing dtype.
    """
    lora = adapter.kind == "lora"
    if champion is not None and champion.kind == "full":
        if lora:
            raise BadRecipe(f"{champion.name} is a full model, from which no adapter of the base can go on; {FULL}")
        base = champion.directory
    model = load_base(base, compute.torch_dtype if lora else torch.float32, compute.device)
    model.config.use_cache = False
    if not lora:
        return (_merged(model, champion) if champion is not None and champion.kind == "lora" else model).train()
    wrapped = _with_lora(model, base_name, adapter)
    if champion is not None:
        continue_adapter(wrapped, champion)
    return wrapped.train()


FULL = "set train.adapter.kind: none, or begin with sft (train.stages)"


def _merged(model: Any, champion: Champion) -> Any:
    """The base with a champion's adapter added to its weights."""
    from peft import PeftModel

    merged: Any = PeftModel.from_pretrained(model, str(champion.directory)).merge_and_unload()
    return merged.requires_grad_(True)


SAME = ("r", "lora_alpha", "target_modules", "layers_to_transform", "use_rslora")


def continue_adapter(model: Any, champion: Champion) -> None:
    """Put the champion's adapter into the new one.

    Raises:
        BadRecipe: the recipe's adapter is another one.
    """
    from peft import PeftConfig, load_peft_weights, set_peft_model_state_dict

    ours, theirs = model.peft_config["default"], PeftConfig.from_pretrained(str(champion.directory))
    for name in SAME:
        wanted, there = (_plain(getattr(config, name, None)) for config in (ours, theirs))
        if wanted != there:
            raise BadRecipe(
                f"train.adapter asks for {name} {wanted} and the adapter of {champion.name}, from which the training goes on, "
                f"has {there}; ask for the same, or begin with sft (train.stages)"
            )
    loaded = set_peft_model_state_dict(model, load_peft_weights(str(champion.directory), device="cpu"))
    if loaded.unexpected_keys:
        raise BadRecipe(f"the adapter of {champion.name} does not fit the base: {sorted(loaded.unexpected_keys)[:3]}")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | list | tuple) else value


def fitting(model: Any, compute: Compute) -> Compute:
    """`compute` with one worker where the model drops units at random: threads would take turns at one generator."""
    drops = any(
        (isinstance(module, nn.Dropout) and module.p > 0) or getattr(module, "attention_dropout", 0)
        for module in model.modules()
    )
    return replace(compute, workers=1) if drops else compute


def _with_lora(model: Any, base_name: str, adapter: Adapter) -> Any:
    from peft import LoraConfig, get_peft_model

    layers = len(decoder_layers(model))
    chosen = adapter.layers_to_transform
    if chosen is not None and (not chosen or not all(0 <= i < layers for i in chosen)):
        raise BadRecipe(
            f"train.adapter.layers_to_transform is {list(chosen)}; the base has the layers 0 to {layers - 1}"
        )
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.r,
        lora_alpha=adapter.alpha or 2 * adapter.r,
        lora_dropout=adapter.dropout,
        target_modules=linear_names(model) if adapter.target_modules == "all-linear" else list(adapter.target_modules),
        layers_to_transform=list(chosen) if chosen is not None else None,
    )
    try:
        wrapped: Any = get_peft_model(model, config)
    except ValueError as error:
        raise BadRecipe(f"train.adapter does not fit the base: {error}"[:500]) from error
    wrapped.peft_config["default"].base_model_name_or_path = base_name
    return wrapped


def linear_names(model: Any) -> list[str]:
    """Last names of all linear layers but the output head: what peft's 'all-linear' means.

    Spelled out here because peft refuses 'all-linear' together with layers_to_transform.
    """
    head = model.get_output_embeddings()
    return sorted(
        {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
    )


def decoder_layers(model: Any) -> nn.ModuleList:
    """The stack of transformer blocks.

    Raises:
        BaseInvalid: an architecture without `model.layers`.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = getattr(inner.get_decoder() if hasattr(inner, "get_decoder") else inner, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise BaseInvalid(f"{type(inner).__name__} has no list of decoder layers; choose a decoder-only model")
    return layers


def trainable(model: Any) -> dict[str, nn.Parameter]:
    """Parameters to train by name, sorted."""
    return dict(sorted((n, p) for n, p in model.named_parameters() if p.requires_grad))


def first_trained_layer(model: Any) -> int:
    """Index of the lowest layer with a trained weight; 0 where one lies below the layers or above them."""
    trained = {id(p) for p in trainable(model).values()}
    found: set[int] = set()
    for index, layer in enumerate(decoder_layers(model)):
        ours = {id(p) for p in layer.parameters()} & trained
        if ours:
            found.add(index)
            trained -= ours
    return 0 if trained or not found else min(found)
