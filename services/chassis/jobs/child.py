"""The child process of a job: `python -m services.chassis.jobs.child module:function`. Knows no database and no Kafka.

Standard input brings one line of JSON {"spec", "workdir", "pipe"} and stays open: its end means that the parent is
gone. Answers go as JSON lines to the file descriptor `pipe`, so that whatever a library prints does no harm.
"""

import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any

from services.chassis.errors import JobStopped
from services.chassis.jobs.failures import classify
from services.chassis.jobs.workdirs import CANCEL
from services.chassis.observability import redaction

Report = Callable[[dict[str, Any]], None]
JobFunction = Callable[[dict[str, Any], Path, Report], dict[str, Any]]
PR_SET_PDEATHSIG = 1

AGAIN_SECONDS = 0.25

_stop = threading.Event()
_cooperates = threading.Event()
_over = threading.Event()


def stop_requested() -> bool:
    """Whether the service wants this process to save its state and raise JobStopped (or end, when cancelled).

    A function that never asks is interrupted with JobStopped wherever it stands.
    """
    _cooperates.set()
    return _stop.is_set()


def cancelled(workdir: Path) -> bool:
    """Whether the job was cancelled, so that nothing needs to be saved."""
    return (workdir / CANCEL).exists()


def main() -> None:
    """Runs the function that the command line names and reports its result or failure."""
    _die_with_parent()
    redaction.learn_environment(os.environ)
    task = json.loads(sys.stdin.readline())
    send = _sender(int(task["pipe"]))
    signal.signal(signal.SIGTERM, _on_term)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, daemon=True).start()
    send(_outcome(sys.argv[1], task["spec"], Path(task["workdir"]), send))
    sys.stdout.flush()
    os._exit(0)  # threads of libraries must not keep a finished job


def _outcome(target: str, spec: dict[str, Any], workdir: Path, send: Report) -> dict[str, Any]:
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        with _alone(workdir):
            return {"result": _load(target)(spec, workdir, _throttled(send))}
    except JobStopped:
        return {"stopped": True}
    except Exception as error:
        failure = classify(error)
        if failure.code == "internal":
            print(redaction.redact(traceback.format_exc()), file=sys.stderr)
        return {"failure": {"code": failure.code, "detail": redaction.redact(failure.detail)}}
    finally:
        _over.set()


@contextlib.contextmanager
def _alone(workdir: Path) -> Generator[None]:
    """Makes this process the only one that works in the folder.

    The worker of an older one may sleep and not know that its lease has run out: its child is killed here, before two
    write the same checkpoint. One of another host is waited for.
    """
    with (workdir / "holder").open("a+") as file:
        while not _locked(file):
            file.seek(0)
            host, _, pid = file.read().rpartition(":")
            if host == socket.gethostname() and _is_child(pid):
                os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)
        file.seek(0)
        file.truncate()
        file.write(f"{socket.gethostname()}:{os.getpid()}")
        file.flush()
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_child(pid: str) -> bool:
    try:
        return b"services.chassis.jobs.child" in Path(f"/proc/{int(pid)}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def _load(target: str) -> JobFunction:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _throttled(send: Report) -> Report:
    """Progress a few times a second, {"checkpoint": ...} always."""
    last = 0.0

    def report(progress: dict[str, Any]) -> None:
        nonlocal last
        if "checkpoint" in progress:
            send(progress)
        elif time.monotonic() - last >= 0.2 or progress.get("final"):
            last = time.monotonic()
            send({"progress": progress})

    return report


def _sender(pipe: int) -> Report:
    lock = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with lock:
            while data:
                data = data[os.write(pipe, data) :]

    return send


def _on_term(number: int, frame: Any) -> None:
    """Interrupts a function that never asks whether to stop; again and again until it ends.

    What is raised in a destructor Python prints and forgets, and a library may take it for a fault of its own. While it
    is on its way out nothing is raised, so that whatever cleans up can.
    """
    if not _stop.is_set():
        _stop.set()
        threading.Thread(target=_repeat, args=(number,), daemon=True).start()
    if not (_cooperates.is_set() or _over.is_set() or _on_its_way(sys.exc_info()[1])):
        raise JobStopped("the service stops")


def _repeat(number: int) -> None:
    while not _over.wait(AGAIN_SECONDS):
        signal.pthread_kill(threading.main_thread().ident or 0, number)


def _on_its_way(handled: BaseException | None) -> bool:
    while handled is not None and not isinstance(handled, JobStopped):
        handled = handled.__context__
    return handled is not None


def _watch_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(3)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    # Under its importable name, so that a job which asks `stop_requested` sees the same flags.
    from services.chassis.jobs import child

    child.main()
