"""A real broker, started once a run on free ports in a home of its own, and stopped at the end."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.console.stack import assets
from services.console.stack.settings import StackSettings
from tests.conftest import free_port


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Bootstrap address of a real Apache Kafka."""
    home = Path(tempfile.mkdtemp(prefix="noria-kafka-"))
    settings = StackSettings(home=home, kafka_port=free_port(), kafka_controller_port=free_port())
    assets.make(settings, only="kafka")
    log = (home / "kafka.log").open("wb")
    broker = subprocess.Popen(
        [sys.executable, "-m", "services.console.stack.kafka"],
        env=settings.environment(),
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + 60
        while not listening(settings.kafka_port):
            assert broker.poll() is None, (home / "kafka.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (home / "kafka.log").read_text()[-3000:]
            time.sleep(0.1)
        yield settings.kafka_bootstrap
    finally:
        broker.terminate()
        broker.wait(30)
        log.close()
        shutil.rmtree(home, ignore_errors=True)
