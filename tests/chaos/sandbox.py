"""The sandbox a stack runs in: a disk that can be filled, and services whose clock can be wrong. Needs no root."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import libfaketime

from services.serving.triton.launch import SHARED_MEMORY

MEGABYTES = 768
"""Of the disk: more than the longest run writes."""
CARRIED = ("state", "artifacts")
"""The folders of a stack's home that lie on it: databases, the spool, the artifact store. Kafka has a disk of its own."""
_BALLAST = "ballast"
_MARK = "NORIA_CHAOS_DISK"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
_PRELOAD = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"


def enter(module: str, arguments: Sequence[str]) -> Path | None:
    """Starts this program again where a folder is a file system of its own, and returns that folder there.

    None where the machine knows no user namespaces for everybody, which some forbid.
    """
    if inside := os.environ.get(_MARK):
        return Path(inside)
    folder = tempfile.mkdtemp(prefix="noria-chaos-disk-")
    mount = [*NAMESPACE, f'mount -t tmpfs -o size={MEGABYTES}m none "$0" && exec "$@"', folder]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode == 0:
        os.environ[_MARK] = folder
        os.execvp(mount[0], [*mount, sys.executable, "-m", module, *arguments])  # noqa: S606 - there is a shell
    Path(folder).rmdir()
    return None


def mount(home: Path, disk: Path) -> None:
    """Lets a stack's home have its databases and artifacts on the disk."""
    for name in CARRIED:
        (disk / name).mkdir()
        (home / name).mkdir(parents=True)
        subprocess.run(["mount", "--bind", disk / name, home / name], check=True)


def unmount(home: Path, disk: Path, *, keep: bool) -> None:
    """Takes the disk from a home whose processes have ended; what lay on it stays in the home where it is to be kept."""
    for name in CARRIED:
        subprocess.run(["umount", "--lazy", home / name], check=False)
        if keep:
            shutil.copytree(disk / name, home / name, dirs_exist_ok=True)


def leave(disk: Path) -> None:
    """Gives the disk up."""
    subprocess.run(["umount", "--lazy", disk], check=False)
    disk.rmdir()


def fill(disk: Path) -> None:
    """Takes all the room there is."""
    with contextlib.suppress(OSError), (disk / _BALLAST).open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def is_full(disk: Path) -> bool:
    """Whether `fill` has taken the room."""
    return (disk / _BALLAST).exists()


def clear(disk: Path) -> None:
    """Gives the room back."""
    (disk / _BALLAST).unlink()


def clock_variables(clock: Path) -> dict[str, str]:
    """The environment of a process whose clock is wrong by what stands in the file `clock`: "+600" seconds, say."""
    return {
        "LD_PRELOAD": str(_PRELOAD),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def with_clock(command: Sequence[str], clock: Path) -> tuple[str, ...]:
    """The command under a clock that can be wrong; the file is read once a second."""
    variables = clock_variables(clock) | {"FAKETIME_CACHE_DURATION": "1"}
    return ("env", *(f"{name}={value}" for name, value in variables.items()), *command)


def set_clock(clock: Path, seconds: int) -> None:
    """Makes the clocks wrong by so many seconds."""
    aside = clock.with_suffix(".new")
    aside.write_text(f"{seconds:+d}\n")
    aside.replace(clock)


def forget_clocks() -> None:
    """Removes the shared memory in which killed processes had their wrong clock; those that ended have done it themselves."""
    for left in (*SHARED_MEMORY.glob("faketime_shm_*"), *SHARED_MEMORY.glob("sem.faketime_sem_*")):
        if not Path("/proc", left.name.rpartition("_")[2]).exists():
            left.unlink(missing_ok=True)
