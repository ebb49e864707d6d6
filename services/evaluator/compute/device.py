"""Device, number format and threads that a measurement computes with. Knows no model's name."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch


def choose() -> tuple[str, torch.dtype]:
    """CUDA with bfloat16 where there is one; on CPU bfloat16 where the processor has instructions for it, otherwise float32.

    On processors with AVX2 alone bfloat16 is slower than float32.
    """
    if torch.cuda.is_available():
        return "cuda", torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return "cpu", torch.bfloat16 if _flags() & {"avx512_bf16", "amx_bf16", "bf16"} else torch.float32


def set_threads(step: Callable[[], object]) -> int:
    """Try `step` on one thread, some and all cores, keep the quickest; returns the number of threads.

    Measured each time and not kept, because it depends on the model and on what else the machine does now.
    """
    if torch.cuda.is_available():
        return torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    seconds = {threads: _seconds(step, threads) for threads in sorted({1, min(cores, 8), cores})}
    best = min(seconds, key=lambda threads: (seconds[threads], threads))
    torch.set_num_threads(best)
    return best


def memory_for_cache(device: str) -> int:
    """Bytes that the keys and values of one batch may take: 512 MiB on CPU, a quarter of what is free on a GPU."""
    return torch.cuda.mem_get_info()[0] // 4 if device == "cuda" else 512 * 2**20


def _seconds(step: Callable[[], object], threads: int) -> float:
    torch.set_num_threads(threads)
    step()
    start = time.perf_counter()
    step()
    step()
    return time.perf_counter() - start


def _flags() -> set[str]:
    """Instruction sets of the first processor, as Linux names them; none elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    line = next((x for x in lines if x.startswith(("flags", "Features"))), "")
    return set(line.partition(":")[2].split())
