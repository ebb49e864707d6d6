"""Freezes on a real Ray cluster of one machine: the same dataset; a cluster that is away is a named failure that passes."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlmodel import Session

from contracts.envelope import Meta
from contracts.events.ingestion import RecordAcceptedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from contracts.records import parse_record
from services.chassis.jobs.failures import PASSING
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.prep import handlers
from services.prep.settings import PrepSettings
from services.prep.store import SqlStore
from tests.conftest import free_port

pytest.importorskip("ray", reason="the extra noria[ray] is not installed")
REVISION = "1" * 64
FREEZE = """
import json, sys
from pathlib import Path
from services.prep import worker
print(json.dumps(worker.run(json.loads(sys.argv[1]), Path(sys.argv[2]), lambda _: None)))
"""
CONNECT = """
import sys
from services.chassis.errors import JobFailed
from services.prep import ray_cluster
try:
    ray_cluster.connect(sys.argv[1], 3.0)
except JobFailed as failed:
    print(failed.code, failed.detail)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, Mapping[str, str]]]:
    """The address of a cluster, and the environment in which it is spoken to."""
    client = free_port()
    private = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    environment = {**os.environ, **private}
    with TemporaryDirectory(prefix="ray") as folder:  # pytest's own is too long for the names of sockets
        options = {
            "port": free_port(),
            "ray-client-server-port": client,
            "node-ip-address": "127.0.0.1",
            "include-dashboard": "false",
            "num-cpus": 1,
            "object-store-memory": 100_000_000,
            "min-worker-port": 0,
            "max-worker-port": 0,
            "temp-dir": folder,
        }
        command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block"]
        command += [f"--{name}={value}" for name, value in options.items()]
        with Path(folder, "log").open("w") as log:
            head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _await_started(Path(folder, "log"), head)
            yield f"ray://127.0.0.1:{client}", environment
        finally:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait(30)


def _await_started(log: Path, head: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while "Ray runtime started" not in log.read_text():
        assert head.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A home in which prep has a project and its records."""
    engine = open_engine(PrepSettings(home=tmp_path))
    migrate(engine, "prep", Path(handlers.__file__).parent / "migrations")
    defined = ProjectDefinedV1(project="p", revision=REVISION, spec=ProjectSpec(project="p", base="none"))
    events = [defined, *(_accepted(i) for i in range(600))]
    with writing(engine) as connection, Session(connection) as session:
        store = SqlStore(session)
        for event in events:
            meta = Meta(id="1", source="urn:test", type="", time=datetime(2026, 1, 31, tzinfo=UTC))
            assert not list(handlers.HANDLERS[type(event)](event, meta, store))
        store.flush()
        session.flush()
    engine.dispose()
    return tmp_path


def _accepted(i: int) -> RecordAcceptedV1:
    near = " ".join(f"w{i - i % 2}x{k}" for k in range(20))
    name, record = parse_record({"prompt": f"{near} {i}", "completion": f"answer {i % 50}"})
    return RecordAcceptedV1(
        project="p", record_id=f"r{i}", revision=1, tags={}, format=name, record=record, digest="0" * 64
    )


def frozen(home: Path, environment: Mapping[str, str], **settings: str) -> dict[str, Any]:
    spec = json.dumps({"project": "p", "revision": REVISION, "newest": None})
    own = {"NORIA_PREP_HOME": str(home), "NORIA_PREP_PROFILE_TOPIC_TOKENS": "0", **settings}
    command = [sys.executable, "-c", FREEZE, spec, str(home)]
    ran = subprocess.run(command, env={**environment, **own}, capture_output=True, text=True, check=False, timeout=300)
    assert not ran.returncode, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_cluster_makes_the_same_dataset(cluster: tuple[str, Mapping[str, str]], filled: Path) -> None:
    address, environment = cluster
    here, there = frozen(filled, environment), frozen(filled, environment, NORIA_PREP_RAY_ADDRESS=address)
    del here["frozen_at"], there["frozen_at"]
    assert there == here
    assert here["drops"]["near_held_out"] > 10  # signatures were compared: more prompts than are compared one by one


def test_a_cluster_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"ray://127.0.0.1:{silent.getsockname()[1]}"
        ran = subprocess.run([sys.executable, "-c", CONNECT, address], capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == f"ray_unavailable no Ray cluster answered at {address} within 3 s", ran.stderr
    assert "ray_unavailable" in PASSING
