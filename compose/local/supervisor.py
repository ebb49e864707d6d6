"""The stack's processes under supervisord: configuration, start, stop, states. Knows no port and no health."""

import hashlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

PROGRAM = """
[program:{name}]
command={command}
directory={directory}
autostart=true
autorestart=true
startsecs={start_seconds}
startretries=1000000
stopsignal=TERM
stopwaitsecs={stop_seconds}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=2
"""

FRAME = """[unix_http_server]
file={socket}
chmod=0700

[supervisord]
logfile={home}/logs/supervisord.log
logfile_maxbytes=5MB
pidfile={home}/supervisord.pid
childlogdir={home}/logs
nodaemon=false
minfds=1024

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

RUNNING = "RUNNING"
START_SECONDS = 10
"""A process that ends sooner is started again after a growing pause; with less, one that fails after its imports would spin."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process to hold: its command, and how long it may take to stop."""

    name: str
    command: tuple[str, ...]
    stop_seconds: int = 15


@dataclass(frozen=True, slots=True)
class Process:
    """A held process. `state` is supervisor's: STARTING, RUNNING, BACKOFF, EXITED, FATAL, STOPPED; `uptime` in seconds."""

    name: str
    state: str
    pid: int
    uptime: float
    detail: str


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> _Connection:
        return _Connection(self.path)


def socket_path(home: Path) -> Path:
    """Where supervisord listens; a short path elsewhere if the home's is longer than a UNIX socket's may be (108 bytes)."""
    direct = home / "supervisor.sock"
    if len(str(direct).encode()) < 90:  # supervisord appends a suffix while it binds
        return direct
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"noria-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; set NORIA_HOME to a shorter path")
    return folder / "supervisor.sock"


def configuration(home: Path, programs: Sequence[Program], directory: Path) -> str:
    """supervisord.conf for the programs."""
    parts = [
        PROGRAM.format(
            name=program.name,
            command=" ".join(map(_quoted, program.command)),
            directory=_escaped(str(directory)),
            log=_escaped(str(home / "logs" / f"{program.name}.log")),
            start_seconds=START_SECONDS,
            stop_seconds=program.stop_seconds,
        )
        for program in programs
    ]
    return FRAME.format(home=_escaped(str(home)), socket=_escaped(str(socket_path(home)))) + "".join(parts)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")  # supervisor expands %(...)s


def _quoted(word: str) -> str:
    safe = word.replace("\\", "\\\\").replace('"', '\\"')
    return _escaped(f'"{safe}"' if any(c in word for c in " ;'\"\\") else word)


def server(home: Path) -> Any:
    """Supervisord's XML-RPC interface."""
    proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(str(socket_path(home))))
    return proxy.supervisor


def alive(home: Path) -> bool:
    """Whether supervisord answers."""
    try:
        return bool(server(home).getState())
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return False


def start(home: Path, programs: Sequence[Program], environment: dict[str, str], directory: Path) -> None:
    """Starts supervisord with the programs, as a daemon.

    Raises:
        RuntimeError: it did not start.
    """
    (home / "logs").mkdir(parents=True, exist_ok=True)
    file = home / "supervisord.conf"
    file.write_text(configuration(home, programs, directory))
    socket_path(home).unlink(missing_ok=True)  # of one that was killed; `alive` was asked before
    daemon = str(Path(sys.executable).parent / "supervisord")
    done = subprocess.run([daemon, "-c", str(file)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"supervisord did not start: {done.stdout}{done.stderr}")


def processes(home: Path) -> list[Process]:
    """The held processes; empty where supervisord does not run."""
    if not alive(home):
        return []
    return [_process(entry) for entry in cast(list[dict[str, Any]], server(home).getAllProcessInfo())]


def _process(entry: dict[str, Any]) -> Process:
    running = entry["statename"] in (RUNNING, "STARTING")
    uptime = float(entry["now"] - entry["start"]) if running else 0.0
    return Process(
        entry["name"], entry["statename"], int(entry["pid"]), uptime, entry["spawnerr"] or entry["description"]
    )


def stop(home: Path, order: Sequence[Sequence[str]], seconds: float = 60) -> None:
    """Stops the programs group by group, then supervisord, and waits for its end.

    Raises:
        TimeoutError: supervisord still runs after `seconds`.
    """
    if not alive(home):
        return
    rpc = server(home)
    pid = int(rpc.getPID())
    held = {p.name for p in processes(home) if p.state in (RUNNING, "STARTING", "BACKOFF")}
    for group in order:
        for name in held.intersection(group):
            _ignore_gone(rpc.stopProcess, name, False)
        _wait_stopped(home, group, seconds)
    rpc.shutdown()
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"supervisord (pid {pid}) still runs after {seconds:g} s; see {home / 'logs'}")
        time.sleep(0.05)
    _remove_socket(home)


def _ignore_gone(call: Any, *arguments: Any) -> None:
    try:
        call(*arguments)
    except xmlrpc.client.Fault:
        return  # it ended by itself in between


def _wait_stopped(home: Path, names: Sequence[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(p.name in names and p.state in (RUNNING, "STARTING", "STOPPING") for p in processes(home)):
            return
        time.sleep(0.05)


def _remove_socket(home: Path) -> None:
    path = socket_path(home)
    path.unlink(missing_ok=True)
    if path.parent != home:
        shutil.rmtree(path.parent, ignore_errors=True)
