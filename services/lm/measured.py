"""Which device, number format, threads and workers training computes with; measured once a machine and kept.

The choice is kept because weights depend on it: a run repeated on the same machine must not be timed anew.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from services.lm.device import cores
from services.lm.files import write_atomically


@dataclass(frozen=True, slots=True)
class Compute:
    """`device` as torch names it, `dtype` float32 or bfloat16, `threads` of one operation on CPU.

    `workers` threads share the rows of a step, each with operations of its own: small matrices do not fill two cores.
    """

    device: str
    dtype: str
    threads: int
    workers: int = 1

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch's object."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32


def choose(cache: Path) -> Compute:
    """CUDA where there is one; otherwise what is quickest here, read from or kept in `cache`/compute.json."""
    if torch.cuda.is_available():
        return Compute("cuda", "bfloat16" if torch.cuda.is_bf16_supported() else "float32", cores())
    file, key = cache / "compute.json", _machine()
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if key not in known:
        known[key] = asdict(_measure())
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(known, indent=2, sort_keys=True).encode())
    return Compute(**known[key])


def apply(compute: Compute, seed: int) -> None:
    """Set threads, seed and determinism for this process.

    cuBLAS reads its workspace setting at its first use, so this comes before any work on a GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(True)
    # A debugging aid that costs 7% of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = False
    torch.manual_seed(seed)


def _machine() -> str:
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "CPU implementer"))}))
    fingerprint = hashlib.sha256(cpu.encode()).hexdigest()[:16]
    return f"{fingerprint} torch={torch.__version__} cores={cores()} {'/'.join(f.name for f in fields(Compute))}"


def pool(compute: Compute) -> ThreadPoolExecutor:
    """As many threads as `compute` has workers, each with its threads of an operation."""
    return ThreadPoolExecutor(compute.workers, "compute", torch.set_num_threads, (compute.threads,))


WORKERS = 8
"""Most of them: each holds the activations of a pack, and a step has that many rows by default."""


def _measure() -> Compute:
    """The quicker dtype on one thread, then all cores if they are quicker than one by more than 15%: others share them."""
    one = min(
        (Compute("cpu", dtype, 1) for dtype in ("float32", "bfloat16")), key=lambda c: _seconds(c, time.thread_time)
    )
    workers = min(cores(), WORKERS)
    shared = {
        Compute("cpu", one.dtype, min(cores(), 16)),
        Compute("cpu", one.dtype, max(1, min(cores(), 16) // workers), workers),
    }
    seconds = {each: _seconds(each, time.perf_counter) for each in (one, *sorted(shared - {one}, key=str))}
    best = min(seconds, key=lambda each: seconds[each])
    return best if seconds[best] < 0.85 * seconds[one] else one


def _seconds(compute: Compute, clock: Callable[[], float], rounds: int = 12, patience: float = 0.6) -> float:
    """Least time a block of forward and backward through one gated feed-forward block of 256 tokens (SmolLM2-135M's width).

    Of several workers each does one at the same time as the others.

    The clock of one thread does not see what others take. After `patience` seconds no further round begins: on a busy
    machine several threads can be fifty times slower than one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(compute.threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 576, generator=generator).to(compute.torch_dtype).requires_grad_()
    up, gate = (torch.randn(1536, 576, generator=generator).to(compute.torch_dtype) for _ in range(2))
    down = torch.randn(576, 1536, generator=generator).to(compute.torch_dtype)

    def block(_: int) -> None:
        for _ in range(4):
            inner = torch.nn.functional.silu(x @ gate.T) * (x @ up.T)
            torch.autograd.grad((inner @ down.T).float().sum(), x)

    times: list[float] = []
    with pool(compute) as threads:
        each = threads.map if compute.workers > 1 else map  # a thread's clock is of the thread that asks
        while len(times) < rounds and sum(times) < patience:
            start = clock()
            list(each(block, range(compute.workers)))
            times.append((clock() - start) / compute.workers)
    torch.set_num_threads(before)
    return min(times)
