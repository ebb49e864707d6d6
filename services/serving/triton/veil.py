"""Takes the admin key out of tritonserver's command line, which every user of the machine can read. Knows no model.

Triton 2.51 takes the key from its command line alone. A process forked before the exec waits until the server has read
its options, which its open port shows, overwrites the key in the server's memory (arg_start to arg_end of proc(5),
through /proc/PID/mem: the same user may, no root is needed) and ends. Until then, about two seconds of a start, the key
can be seen. Where a system forbids it, the log says so and the server runs on.
"""

import contextlib
import ctypes
import os
import re
import socket
import sys
import time
from pathlib import Path

KEY = re.compile(rb"(?<=:admin-key=)[^\0]+")
PR_SET_PTRACER = 0x59616D61  # prctl(2): where Yama restricts ptrace, a forked child may not look at its parent unasked
SECONDS = 120.0


def leave(host: str, port: int) -> None:
    """Leaves a process behind that veils the program which this one becomes. The caller calls exec next."""
    server = os.getpid()
    _allow()
    if (middle := os.fork()) == 0:
        if os.fork() == 0:  # of a middle one that ends, so that the server gets no child it would never wait for
            _watch(server, host, port)
        os._exit(0)
    os.waitpid(middle, 0)


def _allow() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)


def _watch(server: int, host: str, port: int) -> None:
    deadline = time.monotonic() + SECONDS
    while not (_became_server(server) and _answers(host, port)):
        if not Path(f"/proc/{server}").exists():
            return
        if time.monotonic() > deadline:
            _say(server, f"its port {port} did not open within {SECONDS:g} s")
            return
        time.sleep(0.05)
    try:
        veil(server)
    except OSError as error:
        if Path(f"/proc/{server}").exists():
            _say(server, str(error))


def _say(server: int, why: str) -> None:
    line = f"the admin key stays readable in the command line of tritonserver (process {server}): {why}"
    print(line, file=sys.stderr, flush=True)


def _became_server(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"tritonserver")
    return False


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


def veil(pid: int) -> None:
    """Overwrites every admin key in the arguments of process `pid` with crosses.

    Raises:
        OSError: the process is gone, or the system does not allow it.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])  # arg_start, arg_end: fields 48 and 49, counted from 1
    if not begin:
        raise PermissionError("the system hides where its arguments lie")
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(begin)
        arguments = memory.read(end - begin)
        memory.seek(begin)
        memory.write(KEY.sub(lambda found: b"x" * len(found[0]), arguments))
