"""Runs the tiny service as a process of its own against a real broker, and talks to it as an outsider would."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import httpx
from aiokafka.admin import NewTopic
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from compose.local.stack import DEFAULTS
from services.chassis.messaging.kafka.topics import make_topics
from tests.conftest import free_port

T = TypeVar("T")
Headers = Sequence[tuple[str, bytes | None]]


def until(get: Callable[[], T], good: Callable[[T], bool], seconds: float = 30.0) -> T:
    """What `get` gives once it is good; fails when that takes longer."""
    deadline = time.monotonic() + seconds
    while not good(found := get()):
        assert time.monotonic() < deadline, f"still {str(found)[:2000]} after {seconds} s"
        time.sleep(0.05)
    return found


def header(message: Message, name: str) -> str:
    """A header's text."""
    pairs: Any = message.headers() or []
    return dict(pairs)[name].decode()


class Harness:
    """One tiny service with topics of its own."""

    def __init__(self, kafka: str, database: str, home: Path, partitions: int = 3) -> None:
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.kafka = kafka  # where the test itself reads and writes; a test may send the service elsewhere
        self.port = free_port()
        self.home = home
        self.environment = {
            **DEFAULTS,
            **os.environ,
            "TINY": self.name,
            "NORIA_HOME": str(home),
            "NORIA_PORT": str(self.port),
            "NORIA_KAFKA_BOOTSTRAP": kafka,
            "NORIA_DATABASE": database,
            "NORIA_LEASE_SECONDS": "4",
            "NORIA_HANDLER_ATTEMPTS": "2",
            "NORIA_JOB_RETRY_SECONDS": "0.2",
            "NORIA_JOB_RETRY_MAX_SECONDS": "1",
        }
        self.ping = f"{self.name}.ping.sent.v1"
        self.pong = f"{self.name}.pong.sent.v1"
        self.group = f"{self.name}.main"
        self.dead = f"{self.ping}.{self.group}.dlq"
        self.partitions = partitions
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home / f"{self.name}.log"
        self.inside: tuple[str, ...] = ()
        """A command that starts the service in another world: a small disk, a wrong clock."""

    def make_topics(self) -> None:
        names = {self.ping: self.partitions, self.pong: 1, self.dead: 1}
        asyncio.run(make_topics(self.kafka, [NewTopic(name, count, 1) for name, count in names.items()]))

    def start(self, *, ready: bool = True) -> "Harness":
        command = [*self.inside, sys.executable, "-m", "tests.integration.tiny.service"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        if ready:
            until(lambda: self.get("/health/ready"), lambda r: r is not None and r.status_code == 200)
        return self

    def twin(self) -> "Harness":
        """A second instance of the same service: another port, the same everything else."""
        twin = copy(self)
        twin.port, twin.process = free_port(), None
        twin.environment = {**self.environment, "NORIA_PORT": str(twin.port)}
        twin.log = self.home / f"{self.name}-twin.log"
        return twin

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> float:
        """Ends the service by SIGTERM; gives the seconds that took."""
        begun = time.monotonic()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(15) == 0, self.log.read_text()[-3000:]
        return time.monotonic() - begun

    def get(self, path: str) -> httpx.Response | None:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)
        except httpx.HTTPError:
            assert self.process is None or self.process.poll() is None, self.log.read_text()[-3000:]
            return None

    def notes(self) -> list[int]:
        found = self.get("/notes")
        return [number for number, _ in found.json()] if found is not None and found.status_code == 200 else []

    def parked(self, limit: int) -> dict[str, Any]:
        return httpx.get(f"http://127.0.0.1:{self.port}/parked?limit={limit}").raise_for_status().json()

    def retry(self) -> dict[str, int]:
        return httpx.post(f"http://127.0.0.1:{self.port}/parked/retry").raise_for_status().json()

    def figure(self, name: str) -> float:
        """The sum of a figure over its labels."""
        found = self.get("/metrics")
        lines = found.text.splitlines() if found is not None else []
        return sum(
            float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == f"noria_{self.name}_{name}"
        )

    def send(self, *messages: tuple[bytes | None, bytes | None, Headers]) -> None:
        producer = Producer({"bootstrap.servers": self.kafka, "acks": "all"})
        for key, value, headers in messages:
            producer.produce(self.ping, value=value, key=key, headers=list(headers))
        assert producer.flush(20) == 0

    def send_foreign_header(self) -> None:
        """Sends a message with a header whose name is not UTF-8, which this machine's clients refuse to write."""
        program = (
            "import asyncio, sys, aiokafka\n"
            "class Foreign(str):\n"
            "    def encode(self, *_): return b'\\xff\\xfe'\n"
            "async def main(bootstrap, topic):\n"
            "    async with aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:\n"
            "        await producer.send_and_wait(topic, b'{}', key=b'k', headers=[(Foreign('x'), b'1')])\n"
            "asyncio.run(main(*sys.argv[1:]))\n"
        )
        environment = {**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"}
        subprocess.run([sys.executable, "-c", program, self.kafka, self.ping], env=environment, check=True)

    def ping_of(self, number: int, do: str = "note", text: str = "", key: str = "p", id: str | None = None) -> Any:
        headers = {
            "ce_specversion": "1.0",
            "ce_id": id or f"id-{number}",
            "ce_source": "test",
            "ce_type": f"io.noria.{self.ping}",
        }
        value = json.dumps({"project": key, "number": number, "do": do, "text": text}).encode()
        return key.encode(), value, [(name, item.encode()) for name, item in headers.items()]

    def read(self, topic: str, good: Callable[[list[Message]], bool], seconds: float = 30.0) -> list[Message]:
        """The messages of a topic from its beginning, once they are good."""
        consumer = Consumer(
            {"bootstrap.servers": self.kafka, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
        )
        consumer.subscribe([topic])
        found: list[Message] = []
        deadline = time.monotonic() + seconds
        try:
            while not good(found):
                assert time.monotonic() < deadline, (
                    f"{topic} has {len(found)} messages: {[str(m.value())[:80] for m in found][:20]}"
                )
                message = consumer.poll(0.2)
                if message is not None and message.error() is None:
                    found.append(message)
        finally:
            consumer.close()
        return found

    def answers(self, count: int, seconds: float = 30.0) -> dict[str, tuple[int, str]]:
        """The pongs, by ce_id: (number, text), once there are `count` different ones."""

        def enough(messages: list[Message]) -> bool:
            return len(messages) >= count and len({header(m, "ce_id") for m in messages}) >= count

        found = self.read(self.pong, enough, seconds)
        bodies = {header(m, "ce_id"): json.loads(m.value() or b"{}") for m in found}
        return {id: (body["number"], body["text"]) for id, body in bodies.items()}

    def trouble(self) -> str:
        """What /health/ready says is wrong; empty where nothing is."""
        found = self.get("/health/ready")
        checks = found.json()["checks"] if found is not None else {"answer": {"detail": "none"}}
        return "; ".join(f"{name}: {check['detail']}" for name, check in checks.items() if check["detail"])

    def memory(self) -> int:
        """Bytes that the process has in memory."""
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))

    def lag(self) -> int:
        """What the group has not committed yet, as Kafka says."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": self.group})
        places = consumer.committed([TopicPartition(self.ping, n) for n in range(self.partitions)], timeout=10)
        ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
        consumer.close()
        return sum(end - max(place.offset, 0) for place, end in zip(places, ends, strict=True))
