"""A process beside tritonserver that gives it its hidden arguments, and ends it where it hangs. Loads no model.

A server that waits for a dead process for ever is ended, so that its process manager starts it again: seen with tritonserver
2.51: when the process of a Python backend is killed while it loads, the model stays LOADING, no request of the server's is
answered about it any more, and the server does not end on SIGTERM either.
"""

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Collection, Iterable
from pathlib import Path

from services.serving.triton import secret_argv

LOOK_SECONDS = 1.0
GRACE_SECONDS = 5.0
"""So long a model may be loading without a process: Triton starts it at once."""
STUB = "triton_python_backend_stub"


def begin(url: str, key: str) -> str | None:
    """Leaves a child that watches this process, which becomes the server, and ends with it.

    Returns why the system does not let it hide arguments; None where it will do so at the next execve.
    """
    server = os.getpid()
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        theirs.recv(1)  # until this process may trace that one
        try:
            secret_argv.seize(server)
        except OSError as error:
            theirs.sendall(str(error).encode())
        else:
            theirs.sendall(b"-")
            secret_argv.serve(server)
        theirs.close()
        watch(server, url, key)
        os._exit(0)
    theirs.close()
    secret_argv.allow(child)
    ours.sendall(b"-")
    answer = ours.recv(1000).decode()
    ours.close()
    return answer if answer != "-" else None


def watch(server: int, url: str, key: str) -> None:
    """Returns when the server has ended, by itself or by this."""
    alone: dict[str, float] = {}
    while os.getppid() == server:
        time.sleep(LOOK_SECONDS)
        now = time.monotonic()
        states = index(url, key)
        loading = [model for model, state in (states or {}).items() if state == "LOADING"]
        waiting = abandoned(loading, stubs(server))
        alone = {model: alone.get(model, now) for model in waiting}
        if any(now - since > GRACE_SECONDS for since in alone.values()):
            print(f"watchdog: {', '.join(alone)} will never load, its process is dead; ending Triton", flush=True)
            os.kill(server, signal.SIGKILL)
            return


def abandoned(models: Iterable[str], commands: Collection[list[str]]) -> list[str]:
    """Those of the loading models that no living process works for."""
    words = {word for command in commands for word in command}
    return [m for m in models if not any(word == m or word.startswith(f"{m}_") for word in words)]


def index(url: str, key: str) -> dict[str, str] | None:
    """The state of each model that the server knows; None while it does not answer."""
    asked = urllib.request.Request(f"{url}/v2/repository/index", b"{}", {"admin-key": key})  # noqa: S310  our own server
    try:
        with urllib.request.urlopen(asked, timeout=2) as answer:  # noqa: S310
            return {model["name"]: model.get("state", "") for model in json.load(answer)}
    except (OSError, ValueError):
        return None


def stubs(server: int) -> list[list[str]]:
    """The command lines of the server's living Python stubs; a dead one that it has not waited for has none."""
    found: list[list[str]] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended meanwhile
            continue
        if int(stat[1]) == server and stat[0] != "Z" and words[0].endswith(STUB):
            found.append(words)
    return found
