"""DPO tokens a second against TRL's DPOTrainer: same base, pairs, order, adapter, batch size and rate, in one run. Prints JSON.

python -m tests.bench.bench_preference [--steps 12] [--pairs 96] [--layers top|all]

TRL runs as its users run it: tokenised before, a batch padded, fused AdamW, no gradient checkpointing, in float32 and in
bfloat16, with the reference's log-probabilities computed before the first step, as ours are, and with the base asked at each
step, its default; the quickest counts. Each engine is a process of its own and they take turns, ours first and last; the median
step counts, without the first ones. Tokens are those of both rows of a pair, whole, padding never. Both see the same pairs in
the same order, so that the losses of the last steps can be compared. The example's records are the chosen answers; the answer
of another record is the rejected one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from statistics import mean, median
from typing import Any

from tests.bench.bench_train import BASE, CACHE, SYSTEM, rows_of

WARM = 3
BATCH = 8
RATE = 1e-4
LAYERS: dict[str, tuple[int, ...] | None] = {"top": tuple(range(20, 30)), "all": None}
TRL = [("float32", True), ("bfloat16", True), ("float32", False)]
"""(dtype, whether the reference is asked before)."""


def main() -> None:
    """Runs the engines in turn and prints what they reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--layers", choices=list(LAYERS), default="top")
    parser.add_argument("--engine", choices=["noria", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--ahead", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine == "noria":
        print(json.dumps(noria(given.pairs, given.steps, given.layers)))
    elif given.engine == "trl":
        print(json.dumps(trl(given.pairs, given.steps, given.layers, given.dtype, given.ahead)))
    else:
        print(json.dumps(compare(given.pairs, given.steps, given.layers), indent=2))


def compare(pairs: int, steps: int, layers: str) -> dict[str, Any]:
    """Tokens a second of each, ours by the quickest of theirs, and by how much the last losses differ in the same dtype."""
    ours = [child("noria", pairs, steps, layers)]
    theirs = [child("trl", pairs, steps, layers, "--dtype", d, *(["--ahead"] if ahead else [])) for d, ahead in TRL]
    ours.append(child("noria", pairs, steps, layers))
    mine, best = (max(found, key=lambda d: d["tokens_per_second"]) for found in (ours, theirs))
    same = next((t for t in theirs if t["dtype"] == mine["dtype"]), best)
    return {
        "ratio": round(mine["tokens_per_second"] / best["tokens_per_second"], 2),
        "loss_differs": round(mine["loss"] / same["loss"] - 1, 4),
        "noria": ours,
        "trl": theirs,
    }


def child(engine: str, pairs: int, steps: int, layers: str, *more: str) -> dict[str, Any]:
    """One engine in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_preference", "--engine", engine, "--pairs", str(pairs)]
    done = subprocess.run(
        [*command, "--steps", str(steps), "--layers", layers, *more], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{engine} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def pairs_of(most: int) -> tuple[list[Any], Any]:
    """The example's rows as pairs, each with a later one's answer as the rejected one, and the tokenizer."""
    from services.lm.learning import Row
    from services.trainer.domain.units import pair

    rows, tokenizer = rows_of(most)
    found: list[Any] = []
    for i, row in enumerate(rows[:most]):
        other = rows[(i + 7) % len(rows)]
        answer = other.ids[other.start :]
        if answer != row.ids[row.start :]:
            ids = (*row.ids[: row.start], *answer)
            found.append(pair(row, Row(ids, ((row.start, len(ids)),))))
    return found, tokenizer


def noria(most: int, steps: int, layers: str) -> dict[str, Any]:
    """Our loop, its own choice of dtype and threads; charged for the reference and the frozen layers over one epoch."""
    from pathlib import Path

    from contracts.project import Adapter, Prompt, Train
    from services.lm import measured
    from services.lm.memory import keep_pages
    from services.trainer.compute import loop, model, run, stages
    from services.trainer.compute.checkpoint import State
    from services.trainer.compute.data import Data, Stage
    from services.trainer.domain.packing import common_prefix
    from services.trainer.domain.spec import TrainSpec
    from services.trainer.domain.stages import stage_recipes

    keep_pages()
    compute = measured.choose(CACHE)
    units, _tokenizer = pairs_of(most)
    measured.apply(compute, 7)
    settings = {"learning_rate": RATE, "epochs": 1, "replay": 0}
    adapter = Adapter(layers_to_transform=LAYERS[layers])
    recipe = Train.model_validate(
        {"method": "dpo", "adapter": adapter, "batch_size": BATCH, "lr_scheduler": "constant", "warmup_ratio": 0}
        | {"preference": settings}
    )
    (stage_recipe,) = stage_recipes(recipe)
    net = model.prepare(BASE, "base", adapter, compute)
    weights = model.trainable(net)
    prefix = common_prefix([row for unit in units for row in unit.rows])
    found = Data(units, [Stage(stage_recipe, in_order(len(units)), (), {}, {})], prefix)
    optimizer, limits = loop.make_optimizer(weights, stage_recipe), run.limits(net, compute)
    task = stages.task_of(found, 0, limits, compute, net, weights, optimizer, measured.pool(compute))
    state, seconds, tokens, losses = State(identity=""), list[float](), list[int](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        spec = TrainSpec(BASE, "base", Path(), None, Prompt(system=SYSTEM), recipe, CACHE)
        began = time.perf_counter()
        task.lower = run.keep_lower(task, found, lambda: None)
        task.objective = stages.objective(spec, found.stages[0], task, state, Path(folder), lambda: None)
        before = time.perf_counter() - began
    for _step in range(steps):
        began, so_far = time.perf_counter(), state.tokens
        losses.append(loop.step(task, state)[0])
        seconds.append(time.perf_counter() - began)
        tokens.append(state.tokens - so_far)
    speed = median(t / s for t, s in zip(tokens[WARM:], seconds[WARM:], strict=True))
    whole = sum(unit.tokens for unit in units)
    return {
        "engine": "noria",
        "dtype": compute.dtype,
        "tokens_per_second": round(whole / (whole / speed + before), 1),
        "before_seconds": round(before, 2),
        "step_tokens_per_second": round(speed, 1),
        "loss": round(mean(losses[-4:]), 5),
    }


def in_order(count: int) -> list[int]:
    """Places such that the loop, which shuffles, comes to the units in their order, as TRL's sequential sampler does."""
    from services.trainer.domain.packing import epoch_order

    places = [0] * count
    for at, place in enumerate(epoch_order(count, 7, 0)):
        places[place] = at
    return places


def trl(most: int, steps: int, layers: str, dtype: str, ahead: bool) -> dict[str, Any]:
    """TRL's trainer on the same pairs in the same order; charged for the reference over one epoch where that is asked before."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    from services.lm.device import cores
    from services.trainer.compute.model import linear_names

    units, tokenizer = pairs_of(most)
    torch.set_num_threads(cores())
    torch.manual_seed(7)
    net: Any = AutoModelForCausalLM.from_pretrained(BASE, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    chosen = LAYERS[layers]
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=16,
        lora_alpha=32,
        target_modules=linear_names(net),
        layers_to_transform=list(chosen) if chosen else None,
    )
    ends, losses = list[float](), list[float]()

    class Rows(DPOTrainer):
        """With the pairs as they are, not tokenised again, in their order."""

        def _prepare_dataset(self, *_: Any, **__: Any) -> Any:
            return Dataset.from_list(
                [
                    {
                        "prompt_ids": list(u.rows[0].ids[: u.rows[0].start]),
                        "chosen_ids": list(u.rows[0].ids[u.rows[0].start :]),
                        "rejected_ids": list(u.rows[1].ids[u.rows[1].start :]),
                    }
                    for u in units
                ]
            )

        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return SequentialSampler(range(len(units)))

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            if logs and "loss" in logs:
                losses.append(float(logs["loss"]))

    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            max_steps=steps,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            bf16=dtype == "bfloat16",
            use_cpu=True,
            gradient_checkpointing=False,
            precompute_ref_log_probs=ahead,
            max_length=None,
            optim="adamw_torch_fused",
            report_to=[],
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            seed=7,
        )
        rows = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
        began = time.perf_counter()
        made = Rows(
            model=net,
            args=arguments,
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=lora,
            callbacks=[Clock()],
        )
        before = time.perf_counter() - began if ahead else 0.0
        made.train()
    tokens = [sum(u.tokens for u in units[at : at + BATCH]) for at in range(0, len(units), BATCH)]
    gaps = [b - a for a, b in pairwise(ends)]
    speed = median(t / s for t, s in zip(tokens[WARM : len(gaps) + 1], gaps[WARM - 1 :], strict=False))
    whole = sum(u.tokens for u in units)
    return {
        "engine": "trl",
        "dtype": dtype,
        "reference": "before" if ahead else "each step",
        "tokens_per_second": round(whole / (whole / speed + before), 1),
        "before_seconds": round(before, 2),
        "step_tokens_per_second": round(speed, 1),
        "loss": round(mean(losses[-4:]), 5),
    }


if __name__ == "__main__":
    main()
