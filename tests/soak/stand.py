"""Kafka and the services under test as processes of their own, on SQLite or PostgreSQL. Sends nothing."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import Engine, create_engine, make_url

from compose.local.stack import DEFAULTS
from tests.broker import Broker
from tests.chaos.system import Postgres
from tests.conftest import free_port
from tests.soak.policy import Policy

SERVICES = ("ingestion", "prep", "registry", "feedback")
"""The trainer, the evaluator and serving cost minutes of CPU a dataset: the load tells their events in their place."""
SEGMENT_ROWS = 25
"""So few records make a segment here, so that many are made and put together."""
KAFKA = """
log.retention.check.interval.ms=2000
log.segment.delete.delay.ms=1000
log.roll.ms={roll}
"""
JOB_SLOTS = 2
READY_SECONDS = 180.0


@dataclass
class Stand:
    """What runs, and the environment to call it in."""

    home: Path
    broker: Broker
    policy: Policy
    ports: dict[str, int]
    postgres: Postgres | None
    environment: dict[str, str]
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    def url(self, service: str) -> str:
        """A service's HTTP address."""
        return f"http://127.0.0.1:{self.ports[service]}"

    def engine(self, service: str) -> Engine:
        """A connection pool to a service's database."""
        if self.postgres is None:
            return create_engine(f"sqlite:///{self.home / 'state' / f'{service}.db'}", connect_args={"timeout": 30})
        return create_engine(make_url(self.postgres.url), connect_args={"options": f"-csearch_path={service}"})

    def start(self, service: str) -> None:
        """Starts a service."""
        with (self.home / "logs" / f"{service}.log").open("ab") as log:
            command = [sys.executable, "-m", f"services.{service}.app"]
            self.processes[service] = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def check_alive(self) -> None:
        """Raises RuntimeError where a service has ended."""
        for service, process in self.processes.items():
            if process.poll() is not None:
                tail = (self.home / "logs" / f"{service}.log").read_text()[-3000:]
                raise RuntimeError(f"{service} ended with status {process.returncode}\n{tail}")


def configuration(policy: Policy) -> str:
    """What Kafka is told besides: to close and delete its segments within seconds."""
    return KAFKA.format(roll=max(1000, round(policy.seconds(policy.roll) * 1000)))


@contextmanager
def started(database: str, policy: Policy, *, keep: bool) -> Generator[Stand]:
    """A started stand whose services are ready; it is stopped, and unless it is kept removed, at the end."""
    folder = Path(tempfile.mkdtemp(prefix="noria-soak-"))
    home = folder / "noria"
    (home / "logs").mkdir(parents=True)
    broker = Broker(configuration(policy))
    postgres: Postgres | None = None
    stand: Stand | None = None
    try:
        broker.start()
        postgres = Postgres(folder / "postgres") if database == "postgresql" else None
        stand = _stand(home, broker, policy, postgres)
        for service in SERVICES:
            stand.start(service)
        _wait_ready(stand)
        yield stand
    finally:
        _stop(stand, broker, postgres)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _stand(home: Path, broker: Broker, policy: Policy, postgres: Postgres | None) -> Stand:
    ports = {service: free_port() for service in SERVICES}
    environment = {
        **DEFAULTS,
        **os.environ,
        **policy.environment(),
        **{f"NORIA_{service.upper()}_PORT": str(port) for service, port in ports.items()},
        "NORIA_HOME": str(home),
        "NORIA_KAFKA_BOOTSTRAP": broker.bootstrap,
        "NORIA_LOG_LEVEL": "warning",
        "NORIA_RATE_PER_SECOND": "0",
        "NORIA_PREP_SEGMENT_ROWS": str(SEGMENT_ROWS),
        "NORIA_JOB_SLOTS": str(JOB_SLOTS),
    }
    if postgres is not None:
        environment["NORIA_DATABASE"] = postgres.url
    return Stand(home, broker, policy, ports, postgres, environment)


def _wait_ready(stand: Stand) -> None:
    deadline = time.monotonic() + READY_SECONDS
    waiting = set(SERVICES)
    while waiting:
        stand.check_alive()
        waiting = {service for service in waiting if not _ready(stand.url(service))}
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready within {READY_SECONDS:g} s: {', '.join(sorted(waiting))}")
        time.sleep(0.2)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _stop(stand: Stand | None, broker: Broker, postgres: Postgres | None) -> None:
    processes = list(stand.processes.values()) if stand else []
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if postgres is not None:
        postgres.stop()
    broker.stop()
