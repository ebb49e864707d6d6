"""An engine on a tiny random Llama, as Triton's stub runs it, and who listens to its answers."""

import queue
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from services.lm.adapters import Adapter
from services.serving.triton.backend import decoder
from services.serving.triton.backend.engine import Engine
from services.serving.triton.backend.rows import Delta, Request, Tokens
from services.serving.triton.backend.sampling_parameters import Sampling

NO_END = (257,)


@dataclass
class Heard:
    """A listener that keeps what it hears, and when."""

    cancelled: bool = False
    deltas: queue.SimpleQueue[Delta] = field(default_factory=queue.SimpleQueue[Delta])
    times: list[float] = field(default_factory=list[float])

    def emit(self, delta: Delta) -> None:
        self.times.append(time.perf_counter())
        self.deltas.put(delta)

    def whole(self, seconds: float = 30) -> tuple[str, Delta]:
        text = ""
        while True:
            delta = self.deltas.get(timeout=seconds)
            text += delta.text
            if delta.finish_reason is not None or delta.error is not None:
                return text, delta


@contextmanager
def engine(base: Path, **args: Any) -> Generator[Engine]:
    model = decoder.load(base, {"dtype": "float32", **args})
    log: list[str] = []
    made = Engine(model, Tokens(lambda ids, skip: "".join(chr(33 + i) for i in ids), NO_END), log.append)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def ask(engine: Engine, prompt: list[int], tokens: int, adapter: Adapter | None = None, **sampling: Any) -> Heard:
    heard = Heard()
    wishes = replace(Sampling(temperature=0, max_tokens=tokens, ignore_eos=True), **sampling)
    engine.submit(Request(prompt, wishes, adapter, heard))
    return heard


def prompt(length: int, seed: int = 0) -> list[int]:
    return [(seed * 31 + i * i * 7 + i) % 256 for i in range(length)]
