"""Gives a program arguments that no process list shows: for a program that takes a secret on its command line alone.

A process list reads what the kernel put between arg_start and arg_end, for everybody; the environment lies behind it, for the
owner alone. So the secret arguments travel in the environment, and while the program stands still between execve and its
first instruction, a tracer points its argv at them and forgets them in its environ. There is no moment at which they
show. The layout is the psABI's "initial process stack": argc, argv, 0, envp, 0; where it lies: proc(5), `stat`.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

NAME = "NORIA_HIDDEN_"  # and the argument's index
PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE = 7, 17, 0x4206  # linux/ptrace.h
EVENT_EXEC, OPTIONS = 4, 0x10 | 0x100000  # stop at execve; the traced process ends with its tracer, never half served
PR_SET_PTRACER = 0x59616D61  # linux/prctl.h
WORD = struct.calcsize("P")

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def hide(argv: Sequence[str], env: Mapping[str, str], secret: str) -> tuple[list[str], dict[str, str]]:
    """Returns the arguments to show and the environment that carries those with `secret` in them."""
    hidden = {i: argument for i, argument in enumerate(argv) if secret in argument}
    shown = [a.partition("=")[0] + "=hidden" if i in hidden else a for i, a in enumerate(argv)]
    return shown, {**env, **{f"{NAME}{i}": argument for i, argument in hidden.items()}}


def allow(tracer: int) -> None:
    """Lets the process `tracer` trace this one where Yama would forbid it; elsewhere this does nothing."""
    libc.prctl(PR_SET_PTRACER, tracer, 0, 0, 0)


def seize(pid: int) -> None:
    """Becomes the tracer of a process. Raises OSError where the system forbids it or to write to its memory."""
    if not all(places(pid)):
        raise OSError(errno.EPERM, "/proc does not say where its arguments lie")
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0):
        ptrace(PTRACE_SEIZE, pid, OPTIONS)


def serve(pid: int) -> None:
    """Waits until the seized process has called execve, gives it its hidden arguments and lets it go. Raises OSError."""
    while True:
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            return
        event = status >> 16
        if event == EVENT_EXEC:
            break
        ptrace(PTRACE_CONT, pid, 0 if event else os.WSTOPSIG(status))
    reveal(pid)
    ptrace(PTRACE_DETACH, pid)


def reveal(pid: int) -> None:
    """Points the argv of a process that stands at its first instruction at the arguments in its environment."""
    stack, arg_start, arg_end, env_start, env_end = places(pid)
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        argc = read(memory, arg_start, arg_end).count(b"\0")
        argv, envp = stack + WORD, stack + WORD * (argc + 2)
        start = env_start
        for place, entry in enumerate(read(memory, env_start, env_end).split(b"\0")):
            name, _, _ = entry.partition(b"=")
            if name.startswith(NAME.encode()):
                index = int(name.removeprefix(NAME.encode()))
                point(memory, argv + WORD * index, start + len(name) + 1)
                point(memory, envp + WORD * place, env_start)  # another variable once more: nobody inherits this one
            start += len(entry) + 1


def places(pid: int) -> list[int]:
    """Addresses: startstack, arg_start, arg_end, env_start, env_end; zeros where the system does not tell."""
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return [int(stat[field - 3]) for field in (28, 48, 49, 50, 51)]


def read(memory: BinaryIO, start: int, end: int) -> bytes:
    """The bytes from one address to another."""
    memory.seek(start)
    return memory.read(end - start)


def point(memory: BinaryIO, at: int, to: int) -> None:
    """Writes a pointer to the address `to` at the address `at`."""
    memory.seek(at)
    memory.write(struct.pack("P", to))


def ptrace(request: int, pid: int, data: int = 0) -> None:
    """The system call of this name. Raises OSError."""
    if libc.ptrace(request, pid, None, data) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace: {os.strerror(ctypes.get_errno())}")
