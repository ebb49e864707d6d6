"""What the gateway adds to Triton's own time: the same prompt asked of both in turn, 1 and 8 at once. Prints JSON.

python -m tests.bench.bench_gateway [--requests 1000]      a tiny model, real Kafka, Triton and serving on free ports

Both sides are asked from one event loop: Triton through the gateway's own client, the gateway through a bare socket (an
HTTP client library would cost more than what is measured). Times in milliseconds.
"""

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import quantiles
from typing import Any

from services.serving.triton import client
from tests import broker
from tests.integration.serving_parts import Stack, make_upstream, running

PROMPT = "[system] Be brief.\n[user] hello\n[assistant] "
BODY = {"model": "shop", "messages": [{"role": "user", "content": "hello"}]}
SHOWN = (50, 95, 99)
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
    sampling = {"max_tokens": tokens, "temperature": 0.0, "lora_name": "shop-v1"}
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


async def compare(
    triton: client.Triton, model: str, stack: Stack, together: int, requests: int, stream: bool
) -> dict[str, float]:
    """Percentiles of both sides, asked in turn so that the machine's mood is the same for both."""
    tokens = 8 if stream else 1
    connections = [Connection(stack.ports["serving"]) for _ in range(together)]
    body = {**BODY, "max_tokens": tokens, "stream": stream}
    theirs: list[float] = []
    ours: list[float] = []
    await timed([lambda c=c: c.ask(body) for c in connections], 3)
    begun = cpu_seconds(stack.running["serving"].pid)
    for _ in range(TURNS):
        rounds = max(1, requests // (TURNS * together))
        theirs += await timed([lambda: direct(triton, model, tokens, stream)] * together, rounds)
        ours += await timed([lambda c=c: c.ask(body) for c in connections], rounds)
    used = 1000 * (cpu_seconds(stack.running["serving"].pid) - begun) / len(ours)
    figures = {
        f"{side}_p{p}": percentile(times, p) for side, times in (("triton", theirs), ("gateway", ours)) for p in SHOWN
    }
    added = {f"added_p{p}": figures[f"gateway_p{p}"] - figures[f"triton_p{p}"] for p in SHOWN}
    return {**figures, **added, "gateway_cpu": used}


def percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100)[percent - 1]


async def measure(stack: Stack, requests: int) -> dict[str, Any]:
    model = next(p.name for p in (stack.home / "models" / "repository").iterdir())
    found: dict[str, Any] = {}
    async with client.connect(f"127.0.0.1:{stack.ports['grpc']}") as triton:
        for stream, name in ((False, "whole"), (True, "first_token")):
            for together in (1, 8):
                figures = await compare(triton, model, stack, together, requests, stream)
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
            print(json.dumps(asyncio.run(measure(stack, arguments.parse_args().requests)), indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
