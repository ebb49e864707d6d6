"""A real tritonserver on ports and a home of its own."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from services.serving.triton import client, launch, layout
from services.serving.triton.client import Chunk, Triton
from tests.conftest import free_port

T = TypeVar("T")


STARTED = "from services.serving.triton import launch, watchdog; {}; launch.main([])"


@dataclass(frozen=True)
class Server:
    settings: launch.TritonSettings
    env: dict[str, str]
    process: subprocess.Popen[bytes]
    files: Path
    generations: dict[str, str] = field(default_factory=dict[str, str])
    """Under which name the server holds each model."""

    def ask(self, question: Callable[[Triton], Awaitable[T]]) -> T:
        async def asked() -> T:
            async with client.connect(f"127.0.0.1:{self.settings.grpc_port}") as triton:
                return await question(triton)

        return asyncio.run(asked())

    @property
    def remains(self) -> list[Any]:
        prefix = self.settings.shared_memory_prefix
        return [*launch.stubs(prefix), *launch.SHARED_MEMORY.glob(f"{prefix}*")]

    def load(self, model: str, engine: layout.EngineArgs, *adapters: str) -> str:
        """Loads a model with these adapters; what was loaded of it goes."""
        listed = {name: self.files / name for name in adapters}
        new = layout.add_generation(self.settings.repository, model, engine, listed)
        self.ask(lambda triton: client.loaded(triton, new, self.settings.repository / new))
        self.unload(model)
        self.generations[model] = new
        return new

    def unload(self, model: str) -> None:
        if (old := self.generations.pop(model, None)) is not None:
            layout.remove_generation(self.settings.repository, old)

    def list_adapters(self, *names: str) -> None:
        layout.write_adapters(self.settings.repository, "tiny", {name: self.files / name for name in names})


@contextmanager
def serving(files: Path, changed: str = "pass") -> Generator[Server]:
    """Runs a server without a model, a constant of its watchdog `changed`, and asserts that SIGTERM ends all of it."""
    home = Path(tempfile.mkdtemp(prefix="noria-triton-"))
    names = ("NORIA_TRITON_HTTP_PORT", "NORIA_TRITON_GRPC_PORT", "NORIA_TRITON_METRICS_PORT")
    env = {**os.environ, "NORIA_HOME": str(home), **{name: str(free_port()) for name in names}}
    settings = launch.from_environment(env)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", STARTED.format(changed)], env=env, stdout=log, stderr=subprocess.STDOUT
        )
    server = Server(settings, env, process, files)

    try:
        wait_for(lambda: server.ask(client.live), 30, lambda: (home / "log").read_text()[-3000:])
        yield server
    finally:
        process.terminate()
        process.wait(15)
        wait_for(lambda: not launch.stubs(settings.shared_memory_prefix), 5, lambda: str(server.remains))
        launch.clean(settings)  # a test killed a stub, whose memory the server keeps
        assert not server.remains
        shutil.rmtree(home)


def wait_for(state: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not state():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


async def whole(pieces: AsyncGenerator[Chunk]) -> tuple[str, Chunk]:
    chunks = [chunk async for chunk in pieces]
    return "".join(chunk.text for chunk in chunks), chunks[-1]
