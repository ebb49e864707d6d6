"""A service as a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


@contextmanager
def service(name: str, home: Path, kafka: str) -> Generator[str]:
    port = free_port()
    settings = {"HOME": str(home), "KAFKA_BOOTSTRAP": kafka, f"{name.upper()}_PORT": str(port)}
    environment = {**os.environ, **{f"NORIA_{key}": value for key, value in settings.items()}}
    log = home / f"{name}.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", f"services.{name}.app"]
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health/ready").is_success
        except httpx.TransportError:
            return False

    try:
        until(f"{name} ready", ready)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(15) == 0, log.read_text()[-3000:]
