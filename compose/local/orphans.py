"""Processes that a killed supervisord left running: found in /proc by what it put into their environment, and ended.

Knows no program by name: everything that was started under a supervisord of this home counts, their own children included,
and that supervisord itself where its socket is gone.
"""

import os
import signal
import time
from pathlib import Path


def of(home: Path) -> list[int]:
    """Process ids of what some supervisord started for `home`; ask only when that supervisord does not answer."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _belongs(entry, home)]


def _belongs(entry: Path, home: Path) -> bool:
    if int(entry.name) == os.getpid() or _zombie(entry):
        return False
    if os.fsencode(home / "supervisord.conf") in _words(entry / "cmdline"):
        return True
    return {b"SUPERVISOR_ENABLED=1", b"NORIA_HOME=" + os.fsencode(home)} <= _words(entry / "environ")


def _words(file: Path) -> set[bytes]:
    try:
        return set(file.read_bytes().split(b"\0"))
    except OSError:
        return set()  # it has ended meanwhile, or belongs to somebody else


def _zombie(entry: Path) -> bool:
    try:
        return (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def end(home: Path, seconds: float = 15) -> list[int]:
    """Ends them: SIGTERM, and SIGKILL for those left after `seconds`. Returns the ids that were found.

    Raises:
        TimeoutError: some outlived SIGKILL for five seconds.
    """
    found = of(home)
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        _signal(of(home), number)
        if _gone(home, patience):
            return found
    raise TimeoutError(f"processes of {home} still run: {', '.join(map(str, of(home)))}")


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _gone(home: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while of(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
