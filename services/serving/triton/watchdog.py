"""Ends a tritonserver that waits for a dead process for ever, so that its process manager starts it again. Loads no model.

Seen with tritonserver 2.51: when the process of a Python backend is killed while it loads, the model stays LOADING, no
request of the server's is answered about it any more, and the server does not end on SIGTERM either.
"""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Collection, Iterable
from pathlib import Path

LOOK_SECONDS = 1.0
GRACE_SECONDS = 5.0
"""So long a model may be loading without a process: Triton starts it at once."""
STUB = "triton_python_backend_stub"


def begin(url: str, key: str) -> None:
    """Leaves a child that watches this process, which becomes the server; it ends with the server."""
    server = os.getpid()
    if os.fork() == 0:
        watch(server, url, key)
        os._exit(0)


def watch(server: int, url: str, key: str) -> None:
    """Returns when the server has ended, by itself or by this."""
    alone: dict[str, float] = {}
    while os.getppid() == server:
        time.sleep(LOOK_SECONDS)
        now = time.monotonic()
        waiting = abandoned(loading(url, key), stubs(server))
        alone = {model: alone.get(model, now) for model in waiting}
        if any(now - since > GRACE_SECONDS for since in alone.values()):
            print(f"watchdog: {', '.join(alone)} will never load, its process is dead; ending Triton", flush=True)
            os.kill(server, signal.SIGKILL)
            return


def abandoned(models: Iterable[str], commands: Collection[list[str]]) -> list[str]:
    """Those of the loading models that no living process works for."""
    words = {word for command in commands for word in command}
    return [m for m in models if not any(word == m or word.startswith(f"{m}_") for word in words)]


def loading(url: str, key: str) -> list[str]:
    """The models that the server calls LOADING; none while it does not answer."""
    asked = urllib.request.Request(f"{url}/v2/repository/index", b"{}", {"admin-key": key})  # noqa: S310  our own server
    try:
        with urllib.request.urlopen(asked, timeout=2) as answer:  # noqa: S310
            index = json.load(answer)
    except (OSError, ValueError):
        return []
    return [model["name"] for model in index if model.get("state") == "LOADING"]


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
