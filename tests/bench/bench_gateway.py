"""What the gateway adds to Triton's own time: the same prompt asked of both in turn, 1 and 8 at once. Prints JSON.

python -m tests.bench.bench_gateway [--requests 1000]      a tiny model, real Kafka, Triton and serving on free ports

All sides are asked from one event loop: Triton through the gateway's own client, the gateway through a bare socket (an
HTTP client library would cost more than what is measured), and beside it the least that a user could write instead
(bare_gateway.py). Times in milliseconds; `cpu` is of the gateway's process, a request.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from services.serving.triton import client
from tests import broker
from tests.conftest import free_port
from tests.integration.serving_parts import Stack, make_upstream, running, until

PROMPT = "[system] Be brief.\n[user] hello\n[assistant] "
BODY = {"model": "shop", "messages": [{"role": "user", "content": "hello"}]}
SHOWN = (50, 95, 99)
LORA = "shop-v1"
TURNS = 25
"""So often both sides are asked in turn: a connection that rests for five seconds is closed by the gateway."""
Ask = Callable[[], Awaitable[float]]


class Connection:
    """One kept-alive HTTP/1.1 connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pair: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: dict[str, Any]) -> float:
        """Seconds until the whole answer is here, or with `stream` until its first text."""
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(data)}\r\n\r\n"
        begun = time.perf_counter()
        if self.pair is None:
            self.pair = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.pair
        writer.write(head.encode() + data)
        headers = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert headers.startswith("HTTP/1.1 200"), headers
        if body.get("stream"):
            await reader.readuntil(b"data: ")
            first = time.perf_counter() - begun
            await reader.readuntil(b"0\r\n\r\n")
            return first
        length = int(headers.lower().split("content-length:")[1].split("\r\n")[0])
        await reader.readexactly(length)
        return time.perf_counter() - begun


async def direct(triton: client.Triton, model: str, tokens: int, stream: bool) -> float:
    """Seconds of the same request to Triton."""
    sampling = {"max_tokens": tokens, "temperature": 0.0, "lora_name": LORA}
    begun, first = time.perf_counter(), 0.0
    async for _ in client.generate(triton, model, PROMPT, sampling, stream=stream):
        first = first or time.perf_counter() - begun
    return first if stream else time.perf_counter() - begun


async def timed(asks: list[Ask], rounds: int) -> list[float]:
    """Each of `asks` one after the other `rounds` times, all at once."""

    async def one(ask: Ask) -> list[float]:
        return [await ask() for _ in range(rounds)]

    return [1000 * seconds for part in await asyncio.gather(*map(one, asks)) for seconds in part]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Side:
    """A process that answers OpenAI's route."""

    name: str
    port: int
    pid: int


async def compare(
    triton: client.Triton, model: str, sides: Sequence[Side], together: int, requests: int, stream: bool
) -> dict[str, float]:
    """Percentiles of Triton and of what each side adds, asked in turn so that the machine's mood is the same for all."""
    tokens = 8 if stream else 1
    body = {**BODY, "max_tokens": tokens, "stream": stream}
    asks: dict[str, list[Ask]] = {"triton": [lambda: direct(triton, model, tokens, stream)] * together}
    for side in sides:
        connections = [Connection(side.port) for _ in range(together)]
        asks[side.name] = [lambda c=c: c.ask(body) for c in connections]
    for each in asks.values():
        await timed(each, 3)
    took: dict[str, list[float]] = {name: [] for name in asks}
    used = {side.name: -cpu_seconds(side.pid) for side in sides}
    for _ in range(TURNS):
        for name, each in asks.items():
            took[name] += await timed(each, max(1, requests // (TURNS * together)))
    figures = {f"triton_p{p}": percentile(took["triton"], p) for p in SHOWN}
    for side in sides:
        figures |= {f"{side.name}_added_p{p}": percentile(took[side.name], p) - figures[f"triton_p{p}"] for p in SHOWN}
        figures[f"{side.name}_cpu"] = 1000 * (used[side.name] + cpu_seconds(side.pid)) / len(took[side.name])
    return figures


def percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100)[percent - 1]


@contextmanager
def bare_gateway(stack: Stack, model: str) -> Generator[Side]:
    """The least that a user could write, started and ended."""
    port, triton = free_port(), f"127.0.0.1:{stack.ports['grpc']}"
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.bare_gateway", str(port), triton, model, LORA])
    try:
        until(lambda: accepts(port) or None, 30, "the bare gateway listens")
        yield Side("bare", port, process.pid)
    finally:
        process.terminate()
        process.wait(30)


def accepts(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def measure(stack: Stack, model: str, sides: Sequence[Side], requests: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with client.connect(f"127.0.0.1:{stack.ports['grpc']}") as triton:
        for stream, name in ((False, "whole"), (True, "first_token")):
            for together in (1, 8):
                figures = await compare(triton, model, sides, together, requests, stream)
                found[f"{name}_{together}"] = {key: round(value, 3) for key, value in figures.items()}
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=1000)
    folder = Path(tempfile.mkdtemp(prefix="noria-bench-"))
    try:
        with broker.running() as kafka, running(Stack(folder / "home", kafka.bootstrap)) as stack:
            upstream = make_upstream(stack, folder / "scratch")
            upstream.define("shop")
            upstream.promote("shop", 1, upstream.adapter("one", 1))
            stack.wait_for("shop", "shop@1")
            model = next(p.name for p in (stack.home / "models" / "repository").iterdir())
            ours = Side("gateway", stack.ports["serving"], stack.running["serving"].pid)
            with bare_gateway(stack, model) as bare:
                figures = asyncio.run(measure(stack, model, (bare, ours), arguments.parse_args().requests))
            print(json.dumps(figures, indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
