"""The load of months: submissions of every fate, inferences, feedback, datasets, models, dead letters and their resolution.

Seeded; paced by what the services have taken, so that nothing waits for long.
"""

import json
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import KafkaException, Producer

from contracts.envelope import encode, new_meta
from contracts.events.evaluator import ModelScoredV1
from contracts.events.serving import InferenceCompletedV1
from contracts.events.trainer import ModelTrainedV1
from contracts.types import DatasetRef, Metric, ModelRef
from services.chassis.storage.artifacts import ArtifactStore
from tests.soak import measure
from tests.soak.policy import DAYS
from tests.soak.stand import Stand

PROJECTS = ("alpha", "beta", "gamma")
POOL = 300
"""Record ids of a project: its records are bounded, and their revisions grow."""
UPSTREAM, ANSWERED = "upstream.record.submitted.v1", InferenceCompletedV1.TOPIC
AHEAD = 5_000
"""Submissions that may wait for ingestion, and a twentieth of it answers for feedback: taken long before Kafka deletes them."""
MONTHS_AGO = timedelta(days=DAYS)
"""By so much the first submission's time lies before the last one's."""
EXAMPLES = Path(__file__).parents[2] / "contracts" / "examples"
BATCH = 500
LETTERS_AT_ONCE = 5


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a run shall reach."""

    events: int = 1_000_000
    datasets: int = 300
    promotions: int = 100


def specification(project: str) -> dict[str, Any]:
    """A project whose datasets are frozen on demand and whose gate lets a model pass whose chrF is 1 or more."""
    return {
        "project": project,
        "base": "a-base-that-is-nowhere",
        "prep": {"freeze": {"records": 1_000_000, "quiet": "1h"}},
        "evaluate": {"suite": ["loss", "chrf"]},
        "gate": {"require": ["chrf >= 1"]},
    }


class Load:
    """Threads that use a stand until `stop`; `done` counts what they did, `failures` what went wrong."""

    def __init__(self, stand: Stand, amounts: Amounts, seconds: float, seed: int, ahead: int = AHEAD) -> None:
        self.done: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._stand, self._amounts, self._seconds = stand, amounts, seconds
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self._http = httpx.Client(timeout=30)
        self._producer = Producer({"bootstrap.servers": stand.broker.bootstrap, "linger.ms": 20, "log_level": 0})
        self._store = ArtifactStore((stand.home / "artifacts").as_uri(), stand.home / "cache")
        self._seen: set[tuple[str, int]] = set()
        self._requests: list[str] = []
        self._taken: dict[str, int] = {}
        self._ahead = ahead
        self._begun = time.monotonic()
        work = (self._submit, self._answer, self._give_feedback, self._freeze, self._train, self._settle, self._look)
        self._threads = [threading.Thread(target=self._again, args=(each,), daemon=True) for each in work]

    def start(self) -> None:
        """Defines the projects and begins."""
        for project in PROJECTS:
            self._http.post(
                f"{self._stand.url('registry')}/v1/projects", json=specification(project)
            ).raise_for_status()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads; what was sent is confirmed."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        self._producer.flush(60)

    def _again(self, work: Callable[[], float]) -> None:
        while not self._over.is_set():
            try:
                pause = work()
            except (httpx.HTTPError, KafkaException, BufferError, subprocess.SubprocessError, RuntimeError) as error:
                said = (getattr(error, "stderr", None) or getattr(error, "stdout", None) or "").strip()[-300:]
                self.failures[f"{getattr(work, '__name__', '?')}: {type(error).__name__} {said}".strip()] += 1
                pause = 1.0
            self._over.wait(pause)

    def _look(self) -> float:
        self._taken = measure.taken(self._stand, ("ingestion", "feedback"))
        return 0.25

    def _submit(self) -> float:
        ahead = self.done["submitted"] - self._taken.get(UPSTREAM, 0)
        if self.done["submitted"] >= self._amounts.events or ahead > self._ahead:
            self._producer.poll(0)
            return 0.05
        for _ in range(BATCH):
            fate = self._dice.choices(("unchanged", "refused", "new", "twice", "malformed"), (60, 20, 15, 5, 0.02))[0]
            self._send(fate)
        self._producer.poll(0)
        return 0.0

    def _send(self, fate: str) -> None:
        project, number = self._dice.choice(PROJECTS), self._dice.randrange(POOL)
        record: Any = {"prompt": f"question {number} of {project}", "completion": "the answer"}
        if fate == "refused":
            record = {"neither": "of the formats"}
        if fate in ("new", "twice"):
            record["completion"] = f"the answer {self._dice.random()}"
        value = json.dumps({"project": project, "record_id": f"r{number}", "record": record}).encode()
        id = uuid.UUID(int=self._dice.getrandbits(128)).hex
        for _ in range(2 if fate == "twice" else 1):
            self._produce(id, project, b"no json" if fate == "malformed" else value)
        self.done[f"sent {fate}"] += 1

    def _produce(self, id: str, project: str, value: bytes) -> None:
        attributes = {"specversion": "1.0", "id": id, "source": "urn:soak", "type": f"io.noria.{UPSTREAM}"}
        headers: Any = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
        self._producer.produce(UPSTREAM, value, project.encode(), headers=[*headers, ("ce_time", self._stamp())])
        self.done["submitted"] += 1

    def _stamp(self) -> bytes:
        """Months go by in the submissions' times, as their producer says them, and end today."""
        share = min(1.0, (time.monotonic() - self._begun) / self._seconds)
        return (datetime.now(UTC) - (1 - share) * MONTHS_AGO).isoformat().encode()

    def _emit(self, event: Any) -> None:
        id = uuid.uuid4().hex
        key, value, headers = encode(event, new_meta(event, "/noria/soak", id))
        pairs: Any = list(headers)
        self._producer.produce(type(event).TOPIC, value, key, headers=pairs)
        self.done[type(event).TOPIC] += 1

    def _answer(self) -> float:
        """What the gateway would have recorded."""
        if self.done[ANSWERED] - self._taken.get(ANSWERED, 0) > self._ahead / 20:
            return 0.5
        for _ in range(20):
            project, id = self._dice.choice(PROJECTS), f"req-{uuid.uuid4().hex}"
            said: dict[str, Any] = {"role": "user", "content": "a question " * 20}
            model = ModelRef(name=project, version=0)
            self._emit(
                InferenceCompletedV1(
                    project=project,
                    request_id=id,
                    model=model,
                    endpoint="chat.completions",
                    messages=(said,),
                    output="an answer " * 20,
                    finish_reason="stop",
                )
            )
            self._requests = [*self._requests[-200:], id]
        return 0.5

    def _give_feedback(self) -> float:
        if not self._requests:
            return 0.5
        said: dict[str, Any] = {"request_id": self._dice.choice(self._requests), "thumb": "up"}
        if self._dice.random() < 0.2:
            said["correction"] = f"better {self._dice.random()}"
        self._http.post(f"{self._stand.url('feedback')}/v1/feedback", json=said).raise_for_status()
        self.done["feedback"] += 1
        return 0.2

    def _freeze(self) -> float:
        if self.done["datasets"] < self._amounts.datasets:
            project = PROJECTS[self.done["freezes asked"] % len(PROJECTS)]
            self._http.post(f"{self._stand.url('prep')}/v1/projects/{project}/freeze")
            self.done["freezes asked"] += 1
        return 0.7 * self._seconds / self._amounts.datasets

    def _train(self) -> float:
        """What the trainer and the evaluator would have told of each new dataset; every third model passes the gate."""
        for project in PROJECTS:
            page = self._http.get(f"{self._stand.url('prep')}/v1/datasets", params={"project": project, "limit": 5})
            for dataset in reversed(page.raise_for_status().json()["items"]):
                if (project, dataset["number"]) not in self._seen:
                    self._seen.add((project, dataset["number"]))
                    self.done["datasets"] += 1
                    self._trained(project, dataset)
        return 1.0

    def _trained(self, project: str, dataset: dict[str, Any]) -> None:
        run, number = f"run-{project}-{dataset['number']}", dataset["number"]
        good = number % 3 == 1
        names = {"project": project, "version": dataset["version"], "number": number, "files": dataset["files"]}
        own: dict[str, Any] = {"project": project, "run_id": run, "project_revision": dataset["project_revision"]}
        own["dataset"] = DatasetRef.model_validate(names)
        weights = self._store.put_bytes(random.Random(run).randbytes(20_000))
        trained = ModelTrainedV1.model_validate(_example("trainer.model.trained.v1"))
        self._emit(trained.model_copy(update={**own, "files": {"adapter_model.safetensors": weights}}))
        results = self._store.put_bytes(random.Random(f"results of {run}").randbytes(5_000))
        chrf = {"chrf": Metric(value=2.0 * good, low=2.0 * good, high=2.0 * good, n=50)}
        measured: dict[str, Any] = {"metrics": chrf, "results": results, "evaluation_id": f"eval-{run}"}
        scored = ModelScoredV1.model_validate(_example("evaluator.model.scored.v1"))
        self._emit(scored.model_copy(update={**own, **measured, "champion": ModelRef(name=project, version=0)}))
        self.done["good models"] += good

    def _settle(self) -> float:
        """Some dead letters are sent again, others given up, as a person would."""
        for verb in ("redrive", "discard"):
            command = [sys.executable, "-m", "services.cli.app", "dlq", verb, "--reason", "not_json"]
            command += ["--limit", str(LETTERS_AT_ONCE), "--yes", "--json"]
            said = subprocess.run(
                command, env=self._stand.environment, capture_output=True, text=True, timeout=120, check=True
            )
            self.done[f"letters {verb}"] += len(json.loads(said.stdout)["items"])
        return max(2.0, self._seconds / 40)


def _example(topic: str) -> dict[str, Any]:
    return json.loads((EXAMPLES / f"{topic}.json").read_text())["data"]
