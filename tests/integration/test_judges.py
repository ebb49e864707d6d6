"""Evaluator and registry on a real broker with real, tiny weights: a trained model is measured, judged and promoted."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from contracts.envelope import Event, encode, new_meta
from contracts.events.trainer import ModelTrainedV1
from contracts.types import ArtifactRef, BaseRef, DatasetRef, Files
from services.chassis.storage.artifacts import ArtifactStore
from tests.conftest import free_port
from tests.unit.evaluator import tiny

PAIRS = [("list files", "ls"), ("where am I", "pwd"), ("who", "whoami")]
PERSON = {"by": "anna", "reason": "I looked"}


class Judges:
    """An evaluator and a registry in one home, and what a trainer would send them."""

    def __init__(self, kafka: str, home: Path) -> None:
        self.home, self.kafka = home, kafka
        self.project = f"judged-{free_port()}"
        self.ports = {name: free_port() for name in ("registry", "evaluator")}
        self.store = ArtifactStore((home / "artifacts").as_uri(), home / "cache")
        self.base_directory = tiny.make_base(home / "base")
        self.base = BaseRef(name="tiny", digest="0" * 64, files=self.store.put_directory(self.base_directory))
        self.split = self.store.put_file(tiny.write_split(home / "held_out.parquet", PAIRS))
        self.processes = {name: self._start(name) for name in self.ports}

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        settings = {"NORIA_HOME": str(self.home), "NORIA_KAFKA_BOOTSTRAP": self.kafka}
        ports = {f"NORIA_{service.upper()}_PORT": str(port) for service, port in self.ports.items()}
        with (self.home / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"services.{name}.app"],
                env={**os.environ, **settings, **ports},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def call(self, service: str, method: str, path: str, body: Any = None) -> httpx.Response:
        return httpx.request(method, f"http://127.0.0.1:{self.ports[service]}{path}", json=body, timeout=20)

    def get(self, path: str, service: str = "registry") -> Any:
        answer = self.call(service, "GET", path)
        assert answer.is_success, answer.text
        return answer.json()

    def until(self, what: str, check: Callable[[], Any], seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                assert process.poll() is None, (self.home / f"{name}.log").read_text()[-3000:]
            found = check()
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{what}: not within {seconds:g} s")

    def ready(self) -> bool:
        try:
            return all(self.call(name, "GET", "/health/ready").is_success for name in self.ports)
        except httpx.TransportError:
            return False

    def define(self, **sections: Any) -> str:
        spec = {"project": self.project, "base": "tiny", "serve": {"max_tokens": 8}, **sections}
        answer = self.call("registry", "POST", "/v1/projects", spec)
        assert answer.status_code == 200, answer.text
        return answer.json()["revision"]

    def train(self, run_id: str, revision: str, files: Files, split: ArtifactRef | None = None) -> None:
        dataset = DatasetRef(project=self.project, version="d" * 64, number=1, files={"held_out": split or self.split})
        self.send(
            ModelTrainedV1(
                project=self.project,
                project_revision=revision,
                run_id=f"{self.project}-{run_id}",
                dataset=dataset,
                base=self.base,
                kind="lora",
                files=files,
                weights="a" * 64,
                code="b" * 64,
                environment="c" * 64,
                figures={},
            )
        )

    def send(self, event: Event) -> None:
        key, value, headers = encode(event, new_meta(event, "urn:test", f"{self.project}-{time.monotonic_ns()}"))
        producer = Producer({"bootstrap.servers": self.kafka})
        producer.produce(event.TOPIC, key=key, value=value, headers=[(name, text) for name, text in headers])
        assert producer.flush(10) == 0

    def decided(self, version: int) -> Any:
        def read() -> Any:
            answer = self.call("registry", "GET", f"/v1/models/{self.project}/{version}")
            waits = not answer.is_success or answer.json()["detail"] == "waiting for its evaluation"
            return None if waits else answer.json()

        return self.until(f"decision on version {version}", read)

    def adapter(self, seed: int) -> Files:
        return self.store.put_directory(tiny.make_adapter(self.home / f"adapter-{seed}", self.base_directory, seed))


@pytest.fixture(scope="module")
def judges(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judges]:
    judges = Judges(kafka, tmp_path_factory.mktemp("judges"))
    try:
        judges.until("services ready", judges.ready)
        yield judges
    finally:
        for process in judges.processes.values():
            process.terminate()
        for name, process in judges.processes.items():
            assert process.wait(20) == 0, (judges.home / f"{name}.log").read_text()[-3000:]


def test_a_trained_model_is_measured_judged_promoted_and_rolled_back(judges: Judges) -> None:
    first = judges.adapter(1)
    judges.train("first", judges.define(gate={"require": ["chrf >= 0", "loss < 1000"]}), first)
    shown = judges.decided(1)
    assert (shown["stage"], shown["champion"]["version"]) == ("production", 0)
    assert shown["metrics"]["loss"]["n"] == 3

    [evaluation] = judges.get(f"/v1/evaluations?project={judges.project}", "evaluator")["items"]
    assert (evaluation["status"], evaluation["metrics"]) == ("done", shown["metrics"])
    assert judges.store.get(ArtifactRef.model_validate(evaluation["results"])).is_file()

    judges.until("champion known to the evaluator", lambda: _champion(judges) == 1)
    stricter = judges.define(gate={"require": ["loss < champion"]})
    judges.train("same", stricter, first)
    same = judges.decided(2)
    assert (same["stage"], same["champion"]["version"]) == ("rejected", 1)
    assert same["failed"][0].startswith("loss < champion:")
    assert same["champion_metrics"] == shown["metrics"]

    model = f"/v1/models/{judges.project}"
    assert judges.call("registry", "POST", f"{model}/rollback", PERSON | {"to": 2}).status_code == 409
    promoted = judges.call("registry", "POST", f"{model}/2/promote", PERSON).json()
    assert (promoted["stage"], promoted["version"], promoted["changed"]) == ("production", 2, True)
    assert judges.call("registry", "POST", f"{model}/2/promote", PERSON).json()["changed"] is False
    back = judges.call("registry", "POST", f"{model}/rollback", PERSON).json()
    assert (back["stage"], back["version"]) == ("production", 1)
    causes = [entry["cause"] for entry in judges.get(f"{model}/history")["items"]]
    assert causes == ["registered", "gate", "registered", "gate", "superseded", "promote", "superseded", "rollback"]

    lineage = judges.get(f"{model}/1/lineage")
    assert lineage["run"]["code"] == "b" * 64
    assert lineage["files"].keys() == first.keys()
    assert lineage["evaluation"]["evaluation_id"] == evaluation["evaluation_id"]
    assert lineage["project"]["spec"]["gate"]["require"] == ["chrf >= 0", "loss < 1000"]
    compared = judges.get(f"{model}/compare?a=1&b=2")["metrics"]["loss"]
    assert (compared["better"], compared["difference"], compared["certain"]) == ("equal", 0.0, False)


def _champion(judges: Judges) -> int:
    """The champion that the next candidate would meet, as the evaluator's own database has it."""
    with sqlite3.connect(judges.home / "state" / "evaluator.db") as connection:
        row = connection.execute("SELECT promotion FROM champion WHERE project = ?", (judges.project,)).fetchone()
    return json.loads(row[0])["model"]["version"] if row else 0


def test_what_cannot_be_measured_waits_for_a_person_with_its_cause(judges: Judges) -> None:
    empty = judges.store.put_file(tiny.write_split(judges.home / "empty.parquet", []))
    number = len(judges.get(f"/v1/models?project={judges.project}")["items"]) + 1
    judges.train("empty", judges.define(), judges.adapter(5), empty)
    shown = judges.decided(number)
    assert (shown["stage"], shown["evaluation"]["status"]) == ("candidate", "failed")
    assert shown["detail"].startswith("evaluation failed: empty_held_out:")
    waits = 'noria_registry_candidates_waiting{why="evaluation_failed"} 1.0'
    judges.until("told by the figures", lambda: waits in judges.call("registry", "GET", "/metrics").text)
    model = f"/v1/models/{judges.project}/{number}"
    asked = judges.call("registry", "POST", f"{model}/evaluate", PERSON)
    assert (asked.status_code, asked.json()["evaluation"]["status"]) == (202, "pending")

    def ended() -> Any:
        evaluation = judges.get(model)["evaluation"]
        return evaluation if evaluation["status"] != "pending" else None

    tried = judges.until("evaluated again", ended)
    assert (tried["status"], tried["rounds"]) == ("failed", 1)
    path = f"{model}/reject"
    assert judges.call("registry", "POST", path, PERSON).json()["stage"] == "rejected"
    refused = judges.call("registry", "POST", f"{model}/evaluate", PERSON)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_a_candidate")
    again = judges.call("registry", "POST", path, PERSON)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "not_a_candidate")


def test_another_champion_leads_to_another_evaluation_by_itself(judges: Judges) -> None:
    """A promotion that the evaluator cannot have heard of when it planned: it comes once the candidate is measured."""
    model, number = f"/v1/models/{judges.project}", len(judges.get(f"/v1/models?project={judges.project}")["items"]) + 1
    judges.until("champion known to the evaluator", lambda: _champion(judges) == 1)
    rules = {"require": ["loss <= champion"], "approval": "one person"}
    judges.train("overtaken", judges.define(gate=rules), judges.adapter(1))
    judges.decided(number)
    assert judges.call("registry", "POST", f"{model}/2/promote", PERSON).json()["changed"] is True

    def measured() -> Any:
        shown = judges.get(f"{model}/{number}")
        return shown if shown["champion"]["version"] == 2 else None

    shown = judges.until("measured against version 2", measured)
    assert shown["evaluation"]["rounds"] == 1
    assert judges.call("registry", "POST", f"{model}/{number}/evaluate", PERSON).status_code == 202

    def measured_anew() -> Any:
        shown = judges.get(f"{model}/{number}")
        return shown if shown["evaluation"] | {"status": "done", "rounds": 2} == shown["evaluation"] else None

    shown = judges.until("measured for a person", measured_anew)
    assert shown["champion"]["version"] == 2
    assert shown["evaluation_id"].endswith("-r2")
    ids = [e["evaluation_id"] for e in judges.get(f"/v1/evaluations?project={judges.project}", "evaluator")["items"]]
    assert ids.count(shown["evaluation_id"]) == 1


def test_pages_and_errors_have_one_shape(judges: Judges) -> None:
    judges.define()
    before = judges.get("/v1/models?limit=200")["items"]
    cursor, seen = None, []
    while True:
        page = judges.get("/v1/models?limit=1" + (f"&after={cursor}" if cursor else ""))
        seen += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == before
    bad = judges.call("registry", "POST", "/v1/projects", {"project": "x", "base": "b", "gate": {"requires": []}})
    assert (bad.status_code, bad.json()["error"]["code"]) == (422, "invalid_project")
    assert bad.json()["error"]["detail"] == [{"loc": ["gate", "requires"], "msg": "Extra inputs are not permitted"}]
    for service, path, status in (
        ("registry", "/v1/models/none/1", 404),
        ("registry", "/v1/projects/none", 404),
        ("registry", "/v1/models?after=%C3%BC", 400),
        ("registry", "/v1/models?limit=0", 422),
        ("evaluator", "/v1/evaluations/none", 404),
        ("evaluator", "/v1/evaluations?after=e30", 400),
    ):
        answer = judges.call(service, "GET", path)
        assert (answer.status_code, answer.json()["error"].keys()) == (status, {"code", "message", "detail"})
    known = judges.get(f"/v1/projects/{judges.project}")
    same = judges.call("registry", "POST", "/v1/projects", known["spec"]).json()
    told = {
        "revision": known["revision"],
        "changed": False,
        "prompt_version": known["prompt_version"],
        "candidates": [],
    }
    assert same == {"project": judges.project, **told}
    assert judges.project in [item["project"] for item in judges.get("/v1/projects?limit=200")["items"]]


def test_a_new_prompt_is_measured_on_the_same_weights_and_promoted_without_training(judges: Judges) -> None:
    judges.project = f"prompted-{free_port()}"
    model, gate = f"/v1/models/{judges.project}", {"require": ["loss < 1000", "chrf >= champion"]}
    judges.train("only", judges.define(gate=gate, prompt={"system": "Say what to type."}), judges.adapter(1))
    assert judges.decided(1)["stage"] == "production"
    prompt = {
        "system": "Type {{ what }}.",
        "variables": {"what": "it"},
        "examples": [{"user": "now", "assistant": "date"}],
    }
    revision = judges.define(gate=gate, prompt=prompt)

    def judged() -> Any:
        answer = judges.call("registry", "GET", f"{model}/2")
        return answer.json() if answer.is_success and answer.json()["evaluation"]["status"] != "pending" else None

    shown = judges.until("the prompt's candidate judged", judged)
    assert (shown["weights_of"], shown["prompt_version"], shown["project_revision"]) == (1, 2, revision)
    assert (shown["champion"]["version"], shown["metrics"]["loss"]["n"]) == (1, 3)
    assert shown["metrics"]["loss"]["value"] != shown["champion_metrics"]["loss"]["value"], "each under its own prompt"
    lineage = judges.get(f"{model}/2/lineage")
    assert (lineage["run"]["run_id"], lineage["prompt"]["prompt"]["examples"]) == (
        f"{judges.project}-only",
        prompt["examples"],
    )
    assert lineage["history"][0]["reason"] == "prompt 2 on the weights of version 1"
    prompts = f"/v1/projects/{judges.project}/prompts"
    newest = judges.get(f"{prompts}?limit=1")
    assert [(p["version"], p["models"]) for p in newest["items"]] == [(2, [2])]
    [older] = judges.get(f"{prompts}?limit=1&after={newest['next']}")["items"]
    assert older == judges.get(f"{prompts}/1")
    assert (older["prompt"], older["models"]) == ({"system": "Say what to type."}, [1])
    missing = judges.call("registry", "GET", f"{prompts}/3")
    assert (missing.status_code, missing.json()["error"]["message"]) == (
        404,
        f"no prompt 3 of project '{judges.project}'; it has 1 to 2",
    )
    assert judges.call("registry", "GET", "/v1/projects/nobody/prompts").status_code == 404
    wrong = {"system": "{{ what }", "variables": {"what": "it"}}
    spec = judges.get(f"/v1/projects/{judges.project}")["spec"] | {"prompt": wrong}
    refused = judges.call("registry", "POST", "/v1/projects", spec)
    assert (refused.status_code, refused.json()["error"]["detail"][0]["loc"]) == (422, ["prompt", "system"])
    command = [sys.executable, "-m", "services.chassis.replay.rebuild", "registry"]
    settings = {"NORIA_HOME": str(judges.home), "NORIA_KAFKA_BOOTSTRAP": judges.kafka}
    rebuilt = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    mine = [d for d in json.loads(rebuilt.stdout)["differences"] if d["key"].startswith(judges.project)]
    assert mine == [], rebuilt.stdout[-3000:]
