"""The child process of a job as its parent sees it: start, lines it sends, gentle and hard end. Knows no database."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

LINE_LIMIT = 64 << 20


class Process:
    """A running `python -m services.chassis.jobs.child`."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, transport: Any) -> None:
        self._process = process
        self._reader = reader
        self._transport = transport

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the child sends, until it ends."""
        while line := await self._reader.readline():
            with contextlib.suppress(ValueError):  # a killed child may leave half a line
                yield json.loads(line)

    async def wait(self) -> int:
        """The exit status; negative: the signal that ended it."""
        status = await self._process.wait()
        self._transport.close()
        return status

    async def stop(self, seconds: float) -> None:
        """Asks the child to end, and kills it after `seconds`."""
        if self._process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            self.kill()

    def kill(self) -> None:
        """Ends the child at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


async def start(target: str, spec: dict[str, Any], workdir: Path, environment: Mapping[str, str]) -> Process:
    """Starts the function 'module:function' on `spec` in a process of its own."""
    await asyncio.to_thread(workdir.mkdir, parents=True, exist_ok=True)
    source, sink = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.chassis.jobs.child",
            target,
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
            pass_fds=(sink,),
        )
    except BaseException:
        os.close(source)
        raise
    finally:
        os.close(sink)
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(source, "rb")
    )
    task = {"spec": spec, "workdir": str(workdir), "pipe": sink}
    assert process.stdin is not None  # noqa: S101 - asked for above
    with contextlib.suppress(ConnectionError):
        process.stdin.write(json.dumps(task).encode() + b"\n")
        await process.stdin.drain()
    return Process(process, reader, transport)
