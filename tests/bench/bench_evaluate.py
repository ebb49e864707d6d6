"""Seconds of an evaluation's predictions against transformers and peft as their users run them, in one run. Prints JSON.

python -m tests.bench.bench_evaluate [--rows 86] [--tokens 64]

Both measure the same rows under the example's prompt: losses and greedy answers of the base, then of the base with a LoRA
adapter (r=16 on all linear layers, random). Transformers' way: one batch padded on the left, `generate`, and a forward pass
for the loss; peft's layers for the adapter. Each engine is a process of its own on the same number of threads. CPU seconds
are told beside those of the clock: on a machine that others use too they are what compares.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("NORIA_CACHE", "~/.cache/noria")).expanduser()
BASE = CACHE / "bases" / "smollm2-135m-instruct"
SYSTEM = "You are a shell assistant. Answer with one command only."


def main() -> None:
    """Runs the engines in turn and prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=86)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engine", choices=list(ENGINES), help=argparse.SUPPRESS)
    parser.add_argument("--adapter", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine:
        print(json.dumps(ENGINES[given.engine](given)))
        return
    if not BASE.is_dir():
        sys.exit(f"no base model under {BASE}; run: scripts/setup")
    with tempfile.TemporaryDirectory() as folder:
        make_adapter(Path(folder))
        done = {name: child(name, Path(folder), given) for name in ENGINES}
    ratio = {
        unit: round(total(done["transformers"], unit) / total(done["noria"], unit), 2) for unit in ("clock", "cpu")
    }
    print(json.dumps({"ratio": ratio, **done}, indent=2))


def total(found: dict[str, Any], unit: str) -> float:
    """Seconds of all parts."""
    return sum(part[unit] for part in found.values())


def child(engine: str, adapter: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One engine in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_evaluate", "--engine", engine, "--adapter", str(adapter)]
    command += [f"--{name}={getattr(given, name)}" for name in ("rows", "tokens", "threads")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{engine} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def make_adapter(path: Path) -> None:
    """A random adapter on every linear layer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    recipe = LoraConfig(
        task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear", init_lora_weights=False
    )
    net: Any = AutoModelForCausalLM.from_pretrained(BASE)
    get_peft_model(net, recipe).save_pretrained(str(path))


def examples(most: int) -> list[Any]:
    """Records of the example as the evaluator's examples."""
    from contracts.chat import conversation
    from contracts.project import Prompt
    from contracts.records import parse_record
    from services.evaluator.domain.predictions import Example

    script = Path(__file__).parents[2] / "docs" / "examples" / "shell-copilot" / "records.py"
    printed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    found = [(x["record_id"], *conversation(Prompt(system=SYSTEM), parse_record(x["record"])[1])) for x in lines]
    return [Example(name, tuple(messages), answer) for name, messages, answer in found[:: max(1, len(found) // most)]][
        :most
    ]


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the clock and of the processor."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return {"clock": round(time.perf_counter() - clock, 2), "cpu": round(time.process_time() - cpu, 2)}


def noria(given: argparse.Namespace) -> dict[str, Any]:
    """As the evaluator's job does it."""
    import torch

    from services.evaluator.compute import shared
    from services.evaluator.compute.model import Loaded, adapted, load
    from services.evaluator.compute.rows import encode
    from services.lm.device import choose
    from services.lm.memory import keep_pages

    keep_pages()
    torch.set_num_threads(given.threads)
    base = load(BASE, *choose())
    rows = [encode(x, base.text, base.context, given.tokens) for x in examples(given.rows)]

    def both(loaded: Loaded) -> dict[str, float]:
        return timed(lambda: shared.predict(loaded, rows, given.tokens, lambda _: None, loss=True, answer=True))

    found: dict[str, Any] = {"base": both(base)}
    with adapted(base, given.adapter) as tuned:
        return found | {"adapter": both(tuned)}


def transformers(given: argparse.Namespace) -> dict[str, Any]:
    """As users of transformers and peft do it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from services.evaluator.compute.batches import left_padded
    from services.evaluator.compute.rows import encode
    from services.lm.device import choose
    from services.lm.tokens import open_tokenizer

    torch.set_num_threads(given.threads)
    device, dtype = choose()
    text = open_tokenizer(BASE)
    rows = [encode(x, text, 2048, given.tokens) for x in examples(given.rows)]
    ids, mask = left_padded([row.ids for row in rows], device)
    shown, seen = left_padded([row.prompt for row in rows], device)

    @torch.inference_mode()
    def loss(net: Any) -> Any:
        logits = net(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")

    @torch.inference_mode()
    def answers(net: Any) -> Any:
        return net.generate(
            input_ids=shown, attention_mask=seen, max_new_tokens=given.tokens, do_sample=False, pad_token_id=0
        )

    net: Any = AutoModelForCausalLM.from_pretrained(BASE, dtype=dtype)
    net.to(device).eval()
    found = {"base loss": timed(lambda: loss(net)), "base answers": timed(lambda: answers(net))}
    net = PeftModel.from_pretrained(net, str(given.adapter)).eval()
    return found | {"adapter loss": timed(lambda: loss(net)), "adapter answers": timed(lambda: answers(net))}


ENGINES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"noria": noria, "transformers": transformers}

if __name__ == "__main__":
    main()
