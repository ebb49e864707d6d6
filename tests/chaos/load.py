"""Traffic on a stack: records and poison to Kafka, uploads, requests to the gateway, feedback, promotions by hand.

Writes down each operation with whether it was acknowledged. Keeps going whatever fails: failing is what the stack may do.
"""

import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
from confluent_kafka import KafkaException, Producer

from tests.chaos.checker import UPSTREAM
from tests.chaos.observed import POISON, Operation
from tests.chaos.questions import Questions

PROJECTS = ("alpha", "beta")
POOL = 150
"""Record ids of a project; each is submitted again and again, so that its revisions must keep their order."""
RATE = 40
BURST = 3000
"""Messages of a burst: more than ten times what a second brings otherwise."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def prompt(project: str, number: int) -> str:
    """A prompt of its own for each record id, far from all the others."""
    dice = random.Random(f"{project} {number}")
    return " ".join("".join(dice.choices(LETTERS, k=5)) for _ in range(12))


def content(project: str, number: int, revision: int) -> dict[str, Any]:
    """A record of the standard format `prompt`, `completion`."""
    return {"prompt": prompt(project, number), "completion": f"answer {revision} to {number}"}


class Load:
    """Threads that use a stack until `stop`; `operations` is what they asked for."""

    def __init__(self, kafka: str, url: Callable[[str], str], seed: int) -> None:
        self.operations: list[Operation] = []
        self.failures = 0
        self.questions = Questions(lambda: url("serving"), PROJECTS, self.operations)
        self._url = url
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self._burst = threading.Event()
        self._answers: list[tuple[str, str]] = []
        self._revision = 0
        self._producer = Producer(
            {
                "bootstrap.servers": kafka,
                "enable.idempotence": True,
                "message.timeout.ms": 120_000,
                "linger.ms": 5,
                "log_level": 0,
            }
        )
        work = (self._submit, self._upload, self._ask, self._ask, self._feed_back, self._promote, self._freeze)
        self._threads = [threading.Thread(target=self._again, args=(each,), daemon=True) for each in work]

    def start(self) -> None:
        """Begins."""
        for thread in self._threads:
            thread.start()

    def burst(self) -> None:
        """Sends many messages at once, soon."""
        self._burst.set()

    def stop(self) -> None:
        """Ends, and waits until Kafka has confirmed or refused what was sent."""
        self._over.set()
        for thread in self._threads:
            thread.join(150)
        self.questions.stop()
        self._producer.flush(130)

    def _again(self, work: Callable[[], float]) -> None:
        while not self._over.is_set():
            try:
                pause = work()
            except (httpx.HTTPError, KafkaException, BufferError):
                self.failures += 1
                pause = 0.5
            self._over.wait(pause)

    def _submit(self) -> float:
        count = BURST if self._burst.is_set() else RATE // 4
        self._burst.clear()
        for _ in range(count):
            self._send_record()
        if self._dice.random() < 0.3:
            self._send_poison()
        self._producer.poll(0)
        return 0.25

    def _send_record(self) -> None:
        project, number = self._dice.choice(PROJECTS), self._dice.randrange(POOL)
        self._revision += self._dice.random() < 0.9  # now and then a content comes twice
        body = {"project": project, "record_id": f"r{number}", "record": content(project, number, self._revision)}
        id = uuid.uuid4().hex
        for _ in range(2 if self._dice.random() < 0.05 else 1):  # and a message twice
            self._produce(project, id, json.dumps(body).encode(), {})

    def _send_poison(self) -> None:
        values = [b"not json", b"\xff\xfe", b"[" * 3000, b'{"project": 7}', b"{}", b'"' + b"x" * 50_000 + b'"']
        self._produce(self._dice.choice(PROJECTS), uuid.uuid4().hex, self._dice.choice(values), {POISON: b"1"})

    def _produce(self, project: str, id: str, value: bytes, more: dict[str, bytes]) -> None:
        headers = {
            "ce_specversion": b"1.0",
            "ce_id": id.encode(),
            "ce_source": b"urn:chaos",
            "ce_type": f"io.noria.{UPSTREAM}".encode(),
            **more,
        }

        def confirmed(error: Any, _: Any) -> None:
            if not more:
                self.operations.append(Operation("record", id, error is None))

        self._producer.poll(0)
        self._producer.produce(UPSTREAM, value, project.encode(), headers=list(headers.items()), on_delivery=confirmed)

    def _upload(self) -> float:
        project = self._dice.choice(PROJECTS)
        numbers = self._dice.sample(range(POOL, POOL + 20), 3)
        self._revision += 1
        lines = [{"record_id": f"r{n}", "record": content(project, n, self._revision)} for n in numbers]
        text = "\n".join(map(json.dumps, lines))
        address = f"{self._url('ingestion')}/v1/projects/{project}/records"
        answer = httpx.post(address, content=text, headers={"content-type": "application/x-ndjson"}, timeout=20)
        if answer.status_code == 202:
            self.operations += [Operation("upload", item["id"], True) for item in answer.json()["accepted"]]
        return 1.0

    def _ask(self) -> float:
        project = self._dice.choice(PROJECTS)
        model = project if self._dice.random() < 0.8 else f"{project}@base"
        text = prompt(project, self._dice.randrange(POOL))
        if id := self.questions.ask(model, text, self._dice.choice([4, 8, 200]), stream=self._dice.random() < 0.5):
            self._answers.append((project, id))
        return 0.2

    def _feed_back(self) -> float:
        if not self._answers:
            return 0.5
        project, id = self._answers.pop(self._dice.randrange(len(self._answers)))
        said: dict[str, Any] = {"request_id": id, "thumb": self._dice.choice(["up", "down"])}
        if self._dice.random() < 0.5:
            said["correction"] = f"better {id} for {project}"
        answer = httpx.post(f"{self._url('feedback')}/v1/feedback", json=said, timeout=20)
        if answer.status_code == 202:
            self.operations += [Operation("feedback", s["signal_id"], True) for s in answer.json()["signals"]]
        return 0.3

    def _promote(self) -> float:
        registry, project = f"{self._url('registry')}/v1/models", self._dice.choice(PROJECTS)
        versions = _got(httpx.get(registry, params={"project": project}, timeout=10))
        if not versions:
            return 2.0
        reason = f"operation {uuid.uuid4().hex}"
        body = {"by": "chaos", "reason": reason}
        number = self._dice.choice(versions)["version"]
        self.operations.append(Operation("promote", reason, False))  # it may be done though no answer comes
        answer = httpx.post(f"{registry}/{project}/{number}/promote", json=body, timeout=20)
        if answer.status_code == 200 and answer.json()["changed"]:
            self.operations.append(Operation("promote", reason, True))
        return 4.0

    def _freeze(self) -> float:
        """A new dataset whenever the trainer has nothing to do: the wheel shall turn all the time."""
        runs = _got(httpx.get(f"{self._url('trainer')}/v1/runs", timeout=10))
        if sum(run["status"] in ("queued", "running") for run in runs) < 2:
            httpx.post(f"{self._url('prep')}/v1/projects/{self._dice.choice(PROJECTS)}/freeze", timeout=20)
        return 2.0


def _got(answer: httpx.Response) -> list[dict[str, Any]]:
    """The items of a page; raises HTTPError where the service could not answer."""
    return answer.raise_for_status().json()["items"]


def wait_for(what: str, check: Callable[[], Any], seconds: float, pause: float = 0.5) -> Any:
    """The first true value of `check`.

    Raises:
        TimeoutError: none came in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)
    return found
