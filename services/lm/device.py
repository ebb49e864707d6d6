"""Device, number format and threads for computing with a model."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

QUICK_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Processor flags of instructions that multiply bfloat16; the last is Arm's. With AVX2 alone it is slower than float32."""
DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "half": torch.float16,
    "float32": torch.float32,
    "float": torch.float32,
}


def choose() -> tuple[str, torch.dtype]:
    """The device and the format to answer in."""
    device = default_device()
    return device, default_dtype(device)


def default_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> torch.dtype:
    """The format to answer in: bfloat16 where the device multiplies it, else float32."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if QUICK_BF16 & processor_flags() else torch.float32


def named_dtype(name: str, device: str) -> torch.dtype:
    """The format of a name of vLLM's: auto is the default of the device.

    Raises:
        ValueError: there is no such name.
    """
    if name == "auto":
        return default_dtype(device)
    if name not in DTYPES:
        raise ValueError(f"dtype {name!r} is none of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def processor_flags() -> set[str]:
    """Instruction sets of the first processor, as Linux names them; none elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    line = next((x for x in lines if x.startswith(("flags", "Features"))), "")
    return set(line.partition(":")[2].split())


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))


def set_quickest_threads(step: Callable[[], object]) -> int:
    """Try `step` on one thread, some and all cores, keep the quickest; returns the number of threads.

    Measured each time and not kept, because it depends on the model and on what else the machine does now.
    """
    if torch.cuda.is_available():
        return torch.get_num_threads()
    step()  # the first one takes fresh memory
    seconds = {threads: _seconds(step, threads) for threads in sorted({1, min(cores(), 8), cores()})}
    best = min(seconds, key=lambda threads: (seconds[threads], threads))
    torch.set_num_threads(best)
    return best


def memory_for_cache(device: str) -> int:
    """Bytes that the keys and values of one batch may take: 1 GiB on CPU, a quarter of what is free on a GPU.

    On a CPU the same whatever is free: other batches may change the last bits of an answer.
    """
    return torch.cuda.mem_get_info()[0] // 4 if device == "cuda" else 2**30


def tokens_a_pass(device: str) -> int:
    """Tokens that are enough to keep the device busy; with more in one pass rows differ more in length, and padding grows."""
    return 16_384 if device == "cuda" else 512


def _seconds(step: Callable[[], object], threads: int) -> float:
    torch.set_num_threads(threads)
    start = time.perf_counter()
    step()
    step()
    return time.perf_counter() - start
