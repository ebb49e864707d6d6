"""A process beside tritonserver that ends it where it hangs. Loads no model.

A server that waits for a dead process for ever is ended, so that its process manager starts it again. Seen with tritonserver
2.51: when the process of a Python backend is killed while it completes the configuration, the load never ends, no other is
begun, and the server does not end on SIGTERM either.
"""

import http.client
import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

LOOK_SECONDS = 1.0
GRACE_SECONDS = 5.0
"""So long a model may be loading without a process: Triton starts it at once."""
ANSWER_SECONDS = 5.0
SILENT_SECONDS = 30.0
"""A server that answered no question of these seconds hangs; a busy one answers some."""
STUB = "triton_python_backend_stub"


def begin(url: str) -> None:
    """Leaves a child that watches this process, which becomes the server, and ends with it."""
    server = os.getpid()
    if os.fork() == 0:
        watch(server, url)
        os._exit(0)


def watch(server: int, url: str) -> None:
    """Returns when the server has ended, by itself or by this."""
    alone: dict[str, float] = {}
    silent = 0.0
    while os.getppid() == server:
        time.sleep(LOOK_SECONDS)
        asked = time.monotonic()
        states = index(url)
        now = time.monotonic()
        waited = min(now - asked, ANSWER_SECONDS) + LOOK_SECONDS  # not the time for which this process stood still
        silent = 0.0 if states is not None else silent + waited
        if states is not None:
            alone = without_process(states, stubs(server), alone, now)
        if (why := verdict(alone if states is not None else {}, silent, now)) is not None:
            print(f"watchdog: {why}; ending Triton", flush=True)
            os.kill(server, signal.SIGKILL)
            return


def without_process(
    states: Mapping[str, str], commands: Collection[list[str]], before: Mapping[str, float], now: float
) -> dict[str, float]:
    """The models that are loading and lack a living process, with since when."""
    loading = (model for model, state in states.items() if state == "LOADING")
    return {m: before.get(m, now) for m in abandoned(loading, commands)}


def verdict(alone: Mapping[str, float], silent: float, now: float) -> str | None:
    """Why the server must be ended, None where it need not. `silent`: seconds for which it has answered nothing."""
    if silent > SILENT_SECONDS:
        return f"Triton has answered nothing for {silent:.0f} s"
    lost = [model for model, since in alone.items() if now - since > GRACE_SECONDS]
    return f"{', '.join(lost)} will never load, its process is dead" if lost else None


def abandoned(models: Iterable[str], commands: Collection[list[str]]) -> list[str]:
    """Those of the models that no living process works for."""
    words = {
        re.sub(r"(_\d+)*$", "", word) for command in commands for word in command
    }  # base-1, or base-1_0_0: an instance
    return [m for m in models if m not in words]


def index(url: str) -> dict[str, str] | None:
    """The state of each model that the server knows; None while it does not answer."""
    asked = urllib.request.Request(f"{url}/v2/repository/index", b"{}")  # noqa: S310  our own server
    try:
        with urllib.request.urlopen(asked, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            return {model["name"]: model.get("state", "") for model in json.load(answer)}
    except (OSError, ValueError, http.client.HTTPException):
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
