"""A service as a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.conftest import free_port


def until(what: str, check: Callable[[], Any], seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:g} s")


def environment(name: str, home: Path, kafka: str, port: int, **settings: str) -> dict[str, str]:
    """That of a service, and of a command that talks to it."""
    own = {"HOME": str(home), "KAFKA_BOOTSTRAP": kafka, f"{name.upper()}_PORT": str(port), **settings}
    return {**os.environ, **{f"NORIA_{key}": value for key, value in own.items()}}


class Running(NamedTuple):
    """A service that runs."""

    url: str
    pid: int


@contextmanager
def service(name: str, home: Path, kafka: str, port: int | None = None, **settings: str) -> Generator[str]:
    """Runs a service until it is ready, and ends it; its URL. `settings` by their names in capitals, without NORIA_."""
    with running_service(name, home, kafka, port, **settings) as found:
        yield found.url


@contextmanager
def running_service(name: str, home: Path, kafka: str, port: int | None = None, **settings: str) -> Generator[Running]:
    """As `service`, with its process."""
    port = port or free_port()
    log = home / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}.app"],
            env=environment(name, home, kafka, port, **settings),
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health/ready").is_success
        except httpx.TransportError:
            return False

    try:
        until(f"{name} ready", ready)
        yield Running(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        assert process.wait(15) == 0, log.read_text()[-3000:]
