"""A process beside tritonserver that takes its key off the process list, and ends it where it hangs. Loads no model.

The key can be given on the command line alone, which everybody on the machine can read; once the server has read it, it
is overwritten there. A server that waits for a dead process for ever is ended, so that its process manager starts it again:
seen with tritonserver 2.51: when the process of a Python backend is killed while it loads, the model stays LOADING, no
request of the server's is answered about it any more, and the server does not end on SIGTERM either.
"""

import ctypes
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
PR_SET_PTRACER = 0x59616D61  # linux/prctl.h
STUB = "triton_python_backend_stub"


def begin(url: str, key: str) -> None:
    """Leaves a child that watches this process, which becomes the server; it ends with the server."""
    server = os.getpid()
    child = os.fork()
    if child == 0:
        watch(server, url, key)
        os._exit(0)
    # Where Yama guards the memory of processes, a child may write to its parent's only by leave; elsewhere this does nothing.
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, child, 0, 0, 0)


def watch(server: int, url: str, key: str) -> None:
    """Returns when the server has ended, by itself or by this."""
    alone: dict[str, float] = {}
    shown = True
    while os.getppid() == server:
        time.sleep(LOOK_SECONDS)
        now = time.monotonic()
        states = index(url, key)
        if states is not None and shown:
            hide(server, key.encode())
            shown = False
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


def hide(pid: int, secret: bytes) -> None:
    """Overwrites a secret among the arguments of a process (proc(5): arg_start and arg_end are fields 48 and 49 of stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        begin, end = int(fields[45]), int(fields[46])
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(begin)
            arguments = memory.read(end - begin)
            at = arguments.find(secret)
            while at >= 0:
                memory.seek(begin + at)
                memory.write(b"x" * len(secret))
                at = arguments.find(secret, at + 1)
    except OSError as error:
        print(f"watchdog: Triton's admin key stays on the process list: {error}", flush=True)


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
