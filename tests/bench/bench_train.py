"""Training tokens a second against Hugging Face's Trainer: same base, rows, adapter and batch size, in one run. Prints JSON.

python -m tests.bench.bench_train [--steps 16] [--rows 200] [--full] [--parts]    --full: 60 steps, all rows

--parts measures ours against itself without each of its own parts instead, so that each has a figure it is kept for:
workers by one thread, packing by one row a pass, frozen_layers by computing them each time.

Trainer runs as its users run it: rows tokenised before, padded a batch, grouped by length, fused AdamW, in float32 and in
bfloat16 (weights and arithmetic, the adapter in float32), on all cores and on one; the quickest of them counts. Tokens are
those of the rows, padding never. Each engine is a process of its own and they take turns, so that a neighbour's load meets
both; the median step counts, without the first ones. Ours is charged for the pass through the frozen lower layers, spread
over three epochs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

CACHE = Path(os.environ.get("NORIA_CACHE", "~/.cache/noria")).expanduser()
BASE = CACHE / "bases" / "smollm2-135m-instruct"
SYSTEM = "You are a shell assistant. Answer with one command only."
WARM = 4
TRAINERS = [("bfloat16", 0), ("bfloat16", 1), ("float32", 0)]
"""(dtype, threads) that Trainer is tried with; 0: all cores, as it is used by default."""
RECIPES: dict[str, dict[str, Any]] = {
    "top_10_of_30_layers": {"layers_to_transform": tuple(range(20, 30))},
    "all_layers": {},
}


def main() -> None:
    """Runs the engines in turn and prints what they reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--without", default="", help=argparse.SUPPRESS)
    parser.add_argument("--engine", choices=["noria", "trainer"], help=argparse.SUPPRESS)
    parser.add_argument("--recipe", choices=list(RECIPES), help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.full:
        given.steps, given.rows = 60, 10_000
    if given.engine:
        if given.engine == "noria":
            print(json.dumps(noria(given.recipe, given.rows, given.steps, given.without)))
        else:
            print(json.dumps(trainer(given.recipe, given.rows, given.steps, given.dtype, given.threads)))
        return
    measure = parts if given.parts else compare
    print(json.dumps({name: measure(name, given.rows, given.steps) for name in RECIPES}, indent=2))


def compare(recipe: str, rows: int, steps: int) -> dict[str, Any]:
    """Tokens a second of each engine, and the ratio of ours to the quicker Trainer."""
    turns = [("noria", "", 0), *(("trainer", dtype, threads) for dtype, threads in TRAINERS), ("noria", "", 0)]
    done = [child(engine, recipe, rows, steps, dtype, threads) for engine, dtype, threads in turns]
    ours = max((d for d in done if d["engine"] == "noria"), key=lambda d: d["tokens_per_second"])
    theirs = max((d for d in done if d["engine"] == "trainer"), key=lambda d: d["tokens_per_second"])
    ratio = ours["tokens_per_second"] / theirs["tokens_per_second"]
    return {"ratio": round(ratio, 2), "noria": ours, "trainer": [d for d in done if d["engine"] == "trainer"]}


PARTS = ("workers", "packing", "frozen_layers")


def parts(recipe: str, rows: int, steps: int) -> dict[str, float]:
    """How many times quicker the loop is with each part than without it; whole and part take turns."""
    found: dict[str, float] = {}
    for part in PARTS:
        if part == "frozen_layers" and not RECIPES[recipe]:
            continue  # no layer is frozen whole
        turns = [child("noria", recipe, rows, steps, "", 0, without) for without in ("", part, "", part)]
        best = [max(turns[i]["tokens_per_second"], turns[i + 2]["tokens_per_second"]) for i in (0, 1)]
        found[part] = round(best[0] / best[1], 2)
    return found


def child(
    engine: str, recipe: str, rows: int, steps: int, dtype: str, threads: int, without: str = ""
) -> dict[str, Any]:
    """One engine in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_train", "--engine", engine, "--recipe", recipe]
    command += ["--rows", str(rows), "--steps", str(steps), "--dtype", dtype, "--threads", str(threads)]
    command += ["--without", without]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{engine} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(most: int) -> tuple[list[Any], Any]:
    """The example's records as rows, and the tokenizer."""
    from contracts.project import Prompt
    from contracts.records import parse_record
    from services.lm.learning import encode_records
    from services.lm.tokens import open_tokenizer

    if not BASE.is_dir():
        sys.exit(f"no base model under {BASE}; run: scripts/setup")
    script = Path(__file__).parents[2] / "docs" / "examples" / "shell-copilot" / "records.py"
    printed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    records = [parse_record(json.loads(line)["record"])[1] for line in printed.splitlines()]
    tokenizer, chosen = open_tokenizer(BASE), records[:: max(1, len(records) // most)]
    return encode_records(chosen, tokenizer, Prompt(system=SYSTEM), "all", 128).rows, tokenizer.backend


def noria(recipe: str, most: int, steps: int, without: str = "") -> dict[str, Any]:
    """Our loop, with the dtype and threads that it chose here, `without` one of PARTS."""
    from contracts.project import Adapter, Train
    from services.lm import measured
    from services.lm.memory import keep_pages
    from services.trainer.compute import loop, model, run, stages
    from services.trainer.compute.checkpoint import State
    from services.trainer.compute.data import Data, Stage
    from services.trainer.domain.packing import common_prefix
    from services.trainer.domain.units import learn

    keep_pages()
    compute = measured.choose(CACHE)
    rows, _tokenizer = rows_of(most)
    measured.apply(compute, 7)
    train = Train(adapter=Adapter(**RECIPES[recipe]), batch_size=8, epochs=3)
    net = model.prepare(BASE, "base", train.adapter, compute)
    if without == "workers":
        compute = replace(compute, workers=1)
    weights = model.trainable(net)
    prefix, limits = common_prefix(rows), run.limits(net, compute)
    if without == "packing":
        prefix, limits = 0, replace(limits, tokens=1)
    optimizer = loop.make_optimizer(weights, train)
    found = Data([learn(row) for row in rows], [Stage(train, range(len(rows)), (), {}, {})], prefix)
    task = stages.task_of(found, 0, limits, compute, net, weights, optimizer, measured.pool(compute))
    began = time.perf_counter()
    task.lower = None if without == "frozen_layers" else run.keep_lower(task, found, lambda: None)
    lower = time.perf_counter() - began
    state, seconds, tokens = State(identity=""), list[float](), list[int]()
    for _step in range(steps):
        began, before = time.perf_counter(), state.tokens
        loop.step(task, state)
        seconds.append(time.perf_counter() - began)
        tokens.append(state.tokens - before)
    speed = median(t / s for t, s in zip(tokens[WARM:], seconds[WARM:], strict=True))
    whole = 3 * sum(len(row.ids) for row in rows)
    return {
        "engine": "noria",
        "dtype": compute.dtype,
        "threads": compute.threads,
        "workers": compute.workers,
        "tokens_per_second": round(whole / (whole / speed + lower), 1),
        "lower_layers_seconds": round(lower, 2),
    }


def trainer(recipe: str, most: int, steps: int, dtype: str, threads: int) -> dict[str, Any]:
    """Hugging Face's Trainer on the same rows and threads."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.data import Dataset
    from transformers import (
        AutoModelForCausalLM,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from services.lm.device import cores
    from services.trainer.compute.model import linear_names

    rows, tokenizer = rows_of(most)
    torch.set_num_threads(threads or cores())
    net: Any = AutoModelForCausalLM.from_pretrained(BASE, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    layers = RECIPES[recipe].get("layers_to_transform")
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=16,
        lora_alpha=32,
        target_modules=linear_names(net),
        layers_to_transform=list(layers) if layers else None,
    )
    wrapped: Any = get_peft_model(net, lora)
    torch.manual_seed(7)

    class Rows(Dataset[dict[str, list[int]]]):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, list[int]]:
            row = rows[index]
            labels = [-100] * row.start + list(row.ids[row.start :])
            return {"input_ids": list(row.ids), "attention_mask": [1] * len(row.ids), "labels": labels}

    tokens, ends = list[int](), list[float]()
    pad = DataCollatorForSeq2Seq(tokenizer, padding=True)

    def collate(features: list[dict[str, list[int]]]) -> Any:
        tokens.append(sum(len(feature["input_ids"]) for feature in features))
        return pad(features)

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=8,
            max_steps=steps,
            learning_rate=1e-3,
            bf16=dtype == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
            train_sampling_strategy="group_by_length",
            optim="adamw_torch_fused",
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            seed=7,
        )
        Trainer(wrapped, arguments, train_dataset=Rows(), data_collator=collate, callbacks=[Clock()]).train()
    gaps = [b - a for a, b in pairwise(ends)]
    speed = median(t / s for t, s in zip(tokens[WARM : len(gaps) + 1], gaps[WARM - 1 :], strict=False))
    return {
        "engine": "trainer",
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "tokens_per_second": round(speed, 1),
    }


if __name__ == "__main__":
    main()
