"""One whole stack for the end-to-end tests: own home, free ports, started and stopped with the `noria` command."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from confluent_kafka import Producer

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
SERVICES = ("ingestion", "prep", "trainer", "evaluator", "registry", "serving", "feedback")


@dataclass
class Stack:
    """A running stack and how to speak with it."""

    home: Path
    ports: dict[str, int]
    environment: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def kafka(self) -> str:
        return f"127.0.0.1:{self.ports['kafka']}"

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    def run(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """`noria ARGUMENTS` in this stack's environment."""
        command = [str(Path(sys.executable).parent / "noria"), *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    def json(self, *arguments: str, timeout: float = 240) -> Any:
        """What `noria ARGUMENTS --json` prints; the command must succeed."""
        done = self.run(*arguments, "--json", timeout=timeout)
        assert done.returncode == 0, f"noria {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)


def wait_for(what: str, check: Callable[[], Any], seconds: float) -> Any:
    """The first true value of `check`, polled until the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.25)
    raise AssertionError(f"{what}: not within {seconds:g} s")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    home = Path(tempfile.mkdtemp(prefix="noria-e2e-"))
    names = ("kafka", "kafka_controller", "triton_http", "triton_grpc", "triton_metrics", *SERVICES)
    ports = {name: free_port() for name in names}
    variables = {f"NORIA_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    running = Stack(home, ports, {**os.environ, **variables, "NORIA_HOME": str(home)})
    try:
        started = running.run("up", "--detach", timeout=300)
        assert started.returncode == 0, started.stdout + started.stderr
        yield running
    finally:
        stopped = running.run("down", timeout=120)
        logs = {log.name: log.read_text(errors="replace")[-1500:] for log in (home / "logs").glob("*.log")}
        shutil.rmtree(home, ignore_errors=True)
        assert stopped.returncode == 0, f"{stopped.stdout}{stopped.stderr}{logs}"


EXAMPLE = ROOT / "docs" / "examples" / "shell-copilot"
PROJECT = "shell-copilot"
RECORDS = 120


def small_project(folder: Path) -> Path:
    """The example's project with a training that takes seconds.

    Some 18 held-out examples show by chrF what 16 steps bring in few cases; by the loss, of every token, in all.
    """
    project = yaml.safe_load((EXAMPLE / "project.yaml").read_text())
    project["prep"]["freeze"] = {"records": RECORDS - 20, "quiet": "2s"}
    project["train"] |= {"max_steps": 16, "batch_size": 8}
    project["gate"]["require"] = ["loss < champion"]
    project["serve"] = {"max_tokens": 24}
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(project))
    return path


def example_records() -> list[dict[str, Any]]:
    lines = subprocess.run(
        [sys.executable, str(EXAMPLE / "records.py")], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()
    return [json.loads(line) for line in lines[:: len(lines) // RECORDS][:RECORDS]]  # of every tool some


def produce(bootstrap: str, values: list[bytes], headers: list[dict[str, bytes | None]]) -> None:
    """As an upstream system would, in another client."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for value, header in zip(values, headers, strict=True):
        producer.produce("upstream.record.submitted.v1", key=PROJECT, value=value, headers=list(header.items()))
    assert producer.flush(30) == 0


def cloud_event() -> dict[str, bytes | None]:
    return {
        "ce_specversion": b"1.0",
        "ce_id": str(uuid.uuid4()).encode(),
        "ce_source": b"urn:example:upstream",
        "ce_type": b"io.noria.upstream.record.submitted.v1",
        "ce_time": b"2026-01-31T12:00:00Z",
        "content-type": b"application/json",
    }


@pytest.fixture(scope="session")
def loop(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack after one whole turn of the wheel."""
    applied = stack.json("apply", str(small_project(tmp_path_factory.mktemp("project"))))
    assert applied["project"] == PROJECT
    records = [{"project": PROJECT, **record} for record in example_records()]
    produce(stack.kafka, [json.dumps(r).encode() for r in records], [cloud_event() for _ in records])
    wait_for("a deployment", lambda: deployed(stack), 420)
    return stack


def deployed(stack: Stack) -> bool:
    for verb in ("runs", "models"):
        for item in stack.json(verb)["items"]:
            assert item.get("status") != "failed", json.dumps(item)
            assert item.get("stage") != "rejected", json.dumps(item)
    answer = httpx.get(f"{stack.url('serving')}/v1/deployments").json()
    return any(d["status"] == "deployed" and d["model"]["version"] == 1 for d in answer["items"])
