"""Tokens a second and seconds to the first token of the bundled engine against transformers' own ways. Prints a table and JSON.

python -m tests.bench.bench_serving [--rows 1,8,32,96] [--prompt 48] [--tokens 24] [--parts equal,mix,stall]

The same weights, prompts and threads for all, one after the other in one process, without Triton (scripts/bench gateway adds
that); greedy, nothing ends early. `static` is `generate` on up to 32 prompts padded on the left, the next batch when the whole
last one is done; `one by one` the same with one; `continuous` is transformers' own continuous batching. A static batch is taken
to stream: its first token counts when it is there. Adapters (r=16 on every linear layer, random) are mixed in one batch.
`mix`: lengths are log-normal and arrivals a Poisson process (seeded). `stall`: seconds between two tokens of one stream, alone
and while a long prompt is read beside it.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)

from services.lm.adapters import Adapter, read_adapter
from services.lm.tokens import open_tokenizer
from services.serving.triton.backend import decoder
from services.serving.triton.backend.engine import Engine
from services.serving.triton.backend.rows import Delta, Request, Tokens
from services.serving.triton.backend.sampling_parameters import Sampling
from tests.bench.bench_evaluate import BASE, make_adapter

WIDTH = 32  # rows of a batch
ADAPTERS = 4


@dataclass(slots=True)
class Ask:
    """A request, and when what came of it, in seconds from the start."""

    prompt: list[int]
    tokens: int
    at: float = 0.0
    adapter: Adapter | None = None
    first: float = 0.0
    end: float = 0.0


@dataclass(slots=True)
class Listener:
    """Notes when the engine speaks."""

    begun: float
    times: list[float] = field(default_factory=list[float])
    cancelled: bool = False
    done: bool = False
    error: str | None = None

    def emit(self, delta: Delta) -> None:
        """Takes a delta."""
        self.times.append(time.perf_counter() - self.begun)
        self.error = delta.error
        self.done = delta.finish_reason is not None or delta.error is not None


def noria(engine: Engine, asks: Sequence[Ask]) -> None:
    """The engine, each request as it comes."""
    begun, heard = time.perf_counter(), list[Listener]()
    for ask in asks:
        time.sleep(max(0.0, begun + ask.at - time.perf_counter()))
        heard.append(submit(engine, ask, begun))
    for ask, listener in zip(asks, heard, strict=True):
        wait(listener)
        ask.first, ask.end = listener.times[0], listener.times[-1]


def submit(engine: Engine, ask: Ask, begun: float) -> Listener:
    """Asks for an answer of exactly so many tokens."""
    listener = Listener(begun)
    wishes = Sampling(temperature=0, max_tokens=ask.tokens, ignore_eos=True)
    engine.submit(Request(ask.prompt, wishes, ask.adapter, listener))
    return listener


def wait(listener: Listener) -> None:
    """Until its answer is whole."""
    while not listener.done:
        time.sleep(0.005)
    if listener.error:
        sys.exit(f"the engine failed: {listener.error}")


class First(StoppingCriteria):
    """Notes when a batch's first token is there; stops nothing."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:  # type: ignore[override]
        self.at = self.at or time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool)


@torch.inference_mode()
def static(net: Any, asks: Sequence[Ask], width: int = WIDTH) -> None:
    """`generate` on what waits, up to `width` at once, padded on the left, as long as the longest answer."""
    begun, left = time.perf_counter(), list(asks)
    while left:
        time.sleep(max(0.0, begun + left[0].at - time.perf_counter()))
        now = time.perf_counter() - begun
        batch = [ask for ask in left[:width] if ask.at <= now]
        left = left[len(batch) :]
        longest, tokens, first = max(len(x.prompt) for x in batch), max(x.tokens for x in batch), First()
        rows = [([0] * (longest - len(x.prompt)) + x.prompt, len(x.prompt)) for x in batch]
        mask = torch.tensor([[0] * (longest - length) + [1] * length for _, length in rows])
        net.generate(input_ids=torch.tensor([ids for ids, _ in rows]), attention_mask=mask, do_sample=False, pad_token_id=0,
                     min_new_tokens=tokens, max_new_tokens=tokens, stopping_criteria=StoppingCriteriaList([first]))  # fmt: skip
        for ask in batch:
            ask.first, ask.end = first.at - begun, time.perf_counter() - begun


def continuous(net: Any, asks: Sequence[Ask]) -> None:
    """Transformers' continuous batching."""
    config = GenerationConfig(
        do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=max(x.tokens for x in asks)
    )
    room = ContinuousBatchingConfig(num_blocks=128, max_batch_tokens=512)  # by itself it takes most of the memory
    manager = net.init_continuous_batching(generation_config=config, continuous_batching_config=room)
    manager.start()
    try:
        begun, names = time.perf_counter(), dict[str, Ask]()
        for ask in asks:
            time.sleep(max(0.0, begun + ask.at - time.perf_counter()))
            names[manager.add_request(ask.prompt, max_new_tokens=ask.tokens, record_timestamps=True)] = ask
        while names:
            if (result := manager.get_result(timeout=1)) is None:
                if not manager.is_running():
                    raise RuntimeError("its thread ended")
            elif result.is_finished():
                if result.error or not result.timestamps:
                    raise RuntimeError(result.error or "no timestamps")
                ask = names.pop(result.request_id)
                ask.first, ask.end = result.timestamps[0] - begun, result.timestamps[-1] - begun
    finally:
        manager.stop(block=True)


def prompt(length: int, chance: random.Random) -> list[int]:
    """Tokens that no other prompt begins with."""
    return [chance.randrange(100, 40_000) for _ in range(length)]


def equal(rows: int, given: argparse.Namespace, loras: Sequence[Adapter] = ()) -> list[Ask]:
    """So many requests at once, all of one length."""
    chance = random.Random(rows)
    asks = [Ask(prompt(given.prompt, chance), given.tokens) for _ in range(rows)]
    for i, ask in enumerate(asks if loras else ()):
        ask.adapter = loras[i % len(loras)]
    return asks


def mixed(count: int) -> list[Ask]:
    """Prompts of 8 to 256 tokens, answers of 4 to 128, some 10 requests a second: more than can be answered."""
    chance, at, asks = random.Random(3), 0.0, list[Ask]()
    for _ in range(count):
        at += chance.expovariate(10)
        length, tokens = chance.lognormvariate(3.7, 0.8), chance.lognormvariate(3.2, 0.9)
        asks.append(Ask(prompt(int(min(256, max(8, length))), chance), int(min(128, max(4, tokens))), at))
    return asks


def measured(work: Callable[[list[Ask]], None], asks: list[Ask]) -> dict[str, float]:
    """Tokens a second by the clock and of the processor (on a machine in use that compares), seconds to the first token."""
    cpu = time.process_time()
    work(asks)
    cpu = time.process_time() - cpu
    firsts = sorted(ask.first - ask.at for ask in asks)
    seconds = max(ask.end for ask in asks) - min(ask.at for ask in asks)
    return {
        "tokens/s": round(sum(ask.tokens for ask in asks) / seconds, 1),
        "tokens/cpu s": round(sum(ask.tokens for ask in asks) / cpu, 1),
        "first p50": round(firsts[len(firsts) // 2], 2),
        "first p99": round(firsts[min(len(firsts) - 1, int(len(firsts) * 0.99))], 2),
    }


def stall(engine: Engine, length: int) -> dict[str, float]:
    """Seconds between tokens of one stream, before and while a prompt of so many tokens is read."""
    chance, begun = random.Random(5), time.perf_counter()
    stream = submit(engine, Ask(prompt(32, chance), 4_000), begun)
    while len(stream.times) < 100:
        time.sleep(0.01)
    alone = len(stream.times)
    long = submit(engine, Ask(prompt(length, chance), 1), begun)
    wait(long)
    both, stream.cancelled = len(stream.times), True
    gaps = [b - a for a, b in zip(stream.times, stream.times[1:], strict=False)]
    without, beside = (quantiles(part, n=100)[98] for part in (gaps[10 : alone - 1], gaps[alone : both - 1]))
    return {"alone p99": round(without, 3), "beside p99": round(beside, 3), "ratio": round(beside / without, 2),
            "prompt tokens": length, "prompt seconds": round(long.times[0] - stream.times[alone - 1], 1)}  # fmt: skip


def main() -> None:
    """Runs the parts and prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", default="1,8,32,96")
    parser.add_argument("--prompt", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--requests", type=int, default=48, help="of the mix")
    parser.add_argument("--long", type=int, default=8_000, help="tokens of the stall's prompt")
    parser.add_argument("--parts", default="equal,mix,stall")
    given = parser.parse_args()
    if not BASE.is_dir():
        sys.exit(f"no base model under {BASE}; run: scripts/setup --assets")
    model = decoder.load(BASE, {"max_num_seqs": WIDTH})  # sets the threads of all
    text = open_tokenizer(BASE)
    ours = Engine(model, Tokens(lambda ids, skip: text.decode(ids, skip_special=skip), tuple(sorted(text.ends))), print)
    net: Any = AutoModelForCausalLM.from_pretrained(BASE, dtype=model.like.dtype)
    with tempfile.TemporaryDirectory() as folder:
        make_adapter(Path(folder))
        like = model.like.float() if model.device.type == "cpu" else model.like
        loras = [
            read_adapter(f"a{i}", Path(folder), modules=model.modules, max_rank=16, like=like) for i in range(ADAPTERS)
        ]
    net.to(model.device).eval()
    ours.start()
    noria(ours, equal(2, given))
    found: dict[str, dict[str, dict[str, float]]] = {}
    parts = given.parts.split(",")
    print(
        "| | | tokens/s | of static | a processor second | of static | first token p50, s | p99, s |\n"
        + "|---" * 8
        + "|"
    )
    for rows in [int(x) for x in given.rows.split(",")] if "equal" in parts else []:
        line = found[f"{rows} at once"] = {}
        line["static"] = measured(lambda asks: static(net, asks), equal(rows, given))
        line["noria"] = measured(lambda asks: noria(ours, asks), equal(rows, given))
        line["noria, 4 adapters"] = measured(lambda asks: noria(ours, asks), equal(rows, given, loras))
        line["continuous"] = tried(net, equal(rows, given))
        if rows <= WIDTH // 4:  # what one makes does not depend on how many wait
            line["one by one"] = measured(lambda asks: static(net, asks, 1), equal(rows, given))
        show(f"{rows} at once", line)
    if "mix" in parts:
        line = found["mix"] = {}
        line["static"] = measured(lambda asks: static(net, asks), mixed(given.requests))
        line["noria"] = measured(lambda asks: noria(ours, asks), mixed(given.requests))
        line["continuous"] = tried(net, mixed(given.requests))
        show("mix", line)
    stalled = stall(ours, given.long) if "stall" in parts else None
    ours.stop()
    print(json.dumps({"threads": torch.get_num_threads(), "dtype": str(model.like.dtype), "load": os.getloadavg()[0],
                      "stall": stalled, **found}, indent=2))  # fmt: skip


def tried(net: Any, asks: list[Ask]) -> dict[str, float]:
    """Transformers' continuous batching, or nothing where it does not run."""
    try:
        return measured(lambda given: continuous(net, given), asks)
    except Exception as error:
        print(f"transformers' continuous batching did not run: {type(error).__name__}: {error}", file=sys.stderr)
        return {}


def show(case: str, line: dict[str, dict[str, float]]) -> None:
    """Prints a case's lines of the table; ratios are of static's tokens/s."""
    for name, x in line.items():
        cells = ["-"] * 6
        if x:
            ratios = [(x[unit], round(x[unit] / line["static"][unit], 2)) for unit in ("tokens/s", "tokens/cpu s")]
            cells = [str(value) for value in (*ratios[0], *ratios[1], x["first p50"], x["first p99"])]
        print(f"| {case} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
