"""Where an upload lies while it is read: a folder a request under NORIA_HOME/uploads, gone with the request.

Not in the system's folder of temporary files, which is often memory. What a killed process leaves has a lock that nobody
holds; the next upload deletes it.
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from services.chassis.files import collecting


@asynccontextmanager
async def spooled(root: Path) -> AsyncGenerator[Path]:
    """A folder of its own under `root`."""
    made, lock = await asyncio.to_thread(_made, root)
    try:
        yield made
    finally:
        await asyncio.to_thread(_delete, made, lock)


def _delete(made: Path, lock: int) -> None:
    shutil.rmtree(made, ignore_errors=True)
    os.close(lock)


def _made(root: Path) -> tuple[Path, int]:
    with collecting(root, exclusive=True):  # or another instance would delete the folder before it is locked
        for left in root.iterdir():
            if left.is_dir():
                _delete_if_left(left)
        made = Path(tempfile.mkdtemp(dir=root))
        lock = os.open(made, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return made, lock


def _delete_if_left(folder: Path) -> None:
    with suppress(OSError):  # its request has just ended
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(lock)
