"""A real Apache Kafka on free ports in a home of its own, for tests and benches; it can be killed and come back."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from compose.local import assets, kafka
from compose.local.settings import StackSettings
from tests.conftest import free_port


def listening(port: int) -> bool:
    """Whether something accepts connections on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Broker:
    """One broker: `start`, `kill`, `stop`; its ports and its data stay. `properties` goes over its configuration."""

    def __init__(self, properties: str = "") -> None:
        self.properties = properties
        self.home = Path(tempfile.mkdtemp(prefix="noria-kafka-"))
        self.settings = StackSettings(home=self.home, kafka_port=free_port(), kafka_controller_port=free_port())
        assets.make(self.settings, only="kafka")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """host:port."""
        return self.settings.kafka_bootstrap

    @property
    def pid(self) -> int:
        """The process that was started; Java may be its child."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once the broker's port is open."""
        log = self.home / "kafka.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(),
                env=self.settings.environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 90
        while not listening(self.settings.kafka_port):
            assert self._process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)

    def _command(self) -> list[str]:
        if not self.properties:
            return [sys.executable, "-m", "compose.local.kafka"]
        file = kafka.prepare(self.settings)
        file.write_text(file.read_text() + self.properties)  # of two lines of a name Java takes the later
        return kafka.java(self.settings, "kafka.Kafka", str(file))

    def kill(self) -> None:
        """Ends the broker by SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ends the broker and removes its data."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)
        shutil.rmtree(self.home, ignore_errors=True)


@contextmanager
def running() -> Generator[Broker]:
    """A started broker, removed at the end."""
    broker = Broker()
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
