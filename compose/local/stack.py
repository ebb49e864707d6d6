"""The whole stack on one machine: what runs, in which order it stops, when it is ready. Shows nothing by itself."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from compose.local import API_KEY, assets, orphans, ports, supervisor
from compose.local.settings import SERVICES, StackSettings
from compose.local.supervisor import RUNNING, Process, Program

ROOT = Path(__file__).parents[2]
PARTS = ("kafka", "triton", *SERVICES)
TIMER = "gc"
"""What collects artifacts: it answers nobody, and nothing waits for it."""
STOP_ORDER = (
    (TIMER, "ingestion", "serving", "feedback"),
    ("prep", "trainer", "evaluator", "registry"),
    ("triton",),
    ("kafka",),
)
DEATHS = 3
"""A part that ended so often before it became ready will not become ready."""
_CLEAN = ("-m", "services.serving.triton.launch", "--clean")


class StackError(Exception):
    """The stack did not start or stop; the message says which part and where its log is."""


@dataclass(frozen=True, slots=True)
class Part:
    """How a part of the stack stands. `health` is what its readiness check answered."""

    name: str
    process: Process | None
    ready: bool
    health: dict[str, Any]


Say = Callable[[str], None]


STOP = {"serving": 80}
"""Seconds until a service that was told to end is killed: the gateway lets answers end first (NORIA_SERVING_DRAIN_SECONDS)."""


def programs(every: str) -> list[Program]:
    """Every process of the stack; artifacts are collected `every` so often, as 7d or 12h, or "never"."""
    python = sys.executable
    parts = [Program("kafka", (python, "-m", "compose.local.kafka"), 30)]
    parts.append(Program("triton", (python, "-m", "services.serving.triton.launch"), 20))
    parts += [Program(name, (python, "-m", f"services.{name}.app"), STOP.get(name, 15)) for name in SERVICES]
    collect = ("-m", "services.cli.app", "gc", "--yes", "--every", every)
    return parts + ([Program(TIMER, (python, *collect))] if every != "never" else [])


DEFAULTS = {
    # OpenMP threads that wait by spinning take the cores from the other processes of the stack.
    "OMP_WAIT_POLICY": "PASSIVE",
    # glibc's arenas, one a thread, and its growing threshold for giving back keep memory that nobody uses.
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    # The columns of each instruction in tracebacks are a MB a service.
    "PYTHONNODEBUGRANGES": "1",
}
"""What every process of the stack gets unless its user says otherwise."""


def environment(settings: StackSettings) -> dict[str, str]:
    """The environment of every process: `.env` of here, ours over it, the settings, and a PATH whose first python is this."""
    from dotenv import dotenv_values

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    file = {k: v for k, v in dotenv_values(".env").items() if v is not None and k.startswith("NORIA_")}
    found = {**DEFAULTS, **file, **os.environ, **settings.environment(), "PATH": path, "PYTHONUNBUFFERED": "1"}
    return {k: v for k, v in found.items() if k != API_KEY}  # a secret of whoever types, not of the services


def start(settings: StackSettings, say: Say) -> bool:
    """Starts what does not run; False where all of it ran already. Does not wait.

    Raises:
        StackError, PortTaken, AssetError: with what to do.
    """
    if supervisor.alive(settings.home):
        return _restart_stopped(settings, say)
    assets.make(settings, say)
    if orphans.end(settings.home):
        say("ended what a killed process manager had left running")
    _clean(settings)
    ports.check(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        supervisor.start(settings.home, programs(settings.gc_every), environment(settings), ROOT)
    except RuntimeError as error:
        raise StackError(f"{error}; see {settings.home / 'logs' / 'supervisord.log'}") from error
    return True


def _restart_stopped(settings: StackSettings, say: Say) -> bool:
    rest = [p.name for p in supervisor.processes(settings.home) if p.state in ("STOPPED", "EXITED", "FATAL")]
    for name in rest:
        say(f"{name}: starting again")
        supervisor.server(settings.home).startProcess(name, False)
    return bool(rest)


def wait_ready(settings: StackSettings, seconds: float = 180) -> Iterator[tuple[str, float]]:
    """(part, seconds it took) as each becomes ready.

    Raises:
        StackError: a part died for good or the time is over; with the end of its log.
    """
    began = time.monotonic()
    waiting: list[str] = list(PARTS)
    lives: dict[str, set[int]] = {name: set() for name in (*PARTS, TIMER)}
    while waiting:
        for part in [p for p in look(settings, waiting) if p.ready]:
            waiting.remove(part.name)
            yield part.name, time.monotonic() - began
        _raise_on_deaths(settings, lives)
        if waiting and time.monotonic() - began > seconds:
            tails = "\n".join(log_tail(settings, name) for name in waiting)
            raise StackError(f"not ready within {seconds:g} s: {', '.join(waiting)}\n{tails}")
        time.sleep(0.2)


def _raise_on_deaths(settings: StackSettings, lives: dict[str, set[int]]) -> None:
    for process in supervisor.processes(settings.home):
        lives[process.name] |= {process.pid} - {0}
        if process.state == "FATAL" or len(lives[process.name]) > DEATHS:
            raise StackError(f"{process.name} ends again and again\n{log_tail(settings, process.name)}")


def look(settings: StackSettings, names: Sequence[str] = PARTS) -> list[Part]:
    """How the parts stand now."""
    held = {p.name: p for p in supervisor.processes(settings.home)}
    with httpx.Client(timeout=3) as client:
        return [_part(settings, client, name, held.get(name)) for name in names]


def _part(settings: StackSettings, client: httpx.Client, name: str, process: Process | None) -> Part:
    if process is None or process.state not in (RUNNING, "STARTING"):
        detail = "not running" if process is None else f"{process.state} {process.detail}"
        return Part(name, process, False, {"status": "down", "detail": detail})
    if name == "kafka":
        ready = ports.listening(settings.host, settings.kafka_port)
        return _answered(name, process, ready, {"status": "ready" if ready else "starting"})
    url = f"{settings.url('triton_http')}/v2/health/live" if name == "triton" else f"{settings.url(name)}/health/ready"
    try:
        answer = client.get(url)
    except httpx.HTTPError as error:
        return Part(name, process, False, {"status": "starting", "detail": f"{url}: {error}"})
    body = answer.json() if answer.content else {"status": "ready" if answer.is_success else "starting"}
    return _answered(name, process, answer.is_success, body)


def _answered(name: str, process: Process, ready: bool, health: dict[str, Any]) -> Part:
    """A part that is ready has started, though supervisord still watches its first seconds."""
    return Part(name, replace(process, state=RUNNING) if ready else process, ready, health)


def stop(settings: StackSettings) -> bool:
    """Stops everything, services before what they stand on; False where nothing ran.

    Raises:
        StackError: something still runs.
    """
    ran = supervisor.alive(settings.home)
    try:
        supervisor.stop(settings.home, STOP_ORDER)
        ran = bool(orphans.end(settings.home)) or ran
    except TimeoutError as error:
        raise StackError(str(error)) from error
    _clean(settings)
    return ran


def _clean(settings: StackSettings) -> None:
    """Ends what a killed Triton left behind: its stubs and their shared memory."""
    subprocess.run([sys.executable, *_CLEAN], env=environment(settings), cwd=ROOT, capture_output=True, check=False)


def log_tail(settings: StackSettings, name: str, size: int = 1500) -> str:
    """The end of a part's log with its path."""
    path = settings.home / "logs" / f"{name}.log"
    text = path.read_text(errors="replace")[-size:] if path.exists() else "(no log)"
    return f"--- {path}\n{text}"
