"""Files on the local disk: copied with their digest, linked, synced, locked, kept inside their folder and the disk's room.

Knows no store.
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from services.chassis.errors import ArtifactRefused

CHUNK = 1 << 20
LOOK = 64 << 20
"""Bytes between two looks at the disk; a file that is shorter is not held up."""


@contextmanager
def collecting(root: Path, *, exclusive: bool) -> Generator[None]:
    """Held by whoever puts (shared) and by whoever deletes (exclusive), across processes, by flock(2)."""
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root / ".collecting", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def touched(path: Path) -> bool:
    """Makes the file young, so that it is not collected before its new reference is told; False where it may not."""
    try:
        os.utime(path)
    except PermissionError:
        return False
    return True


def inside(base: Path, uri: str) -> Path:
    """The file of a file:// URI, refused where links lead it out of `base`."""
    path = Path(unquote(urlsplit(uri).path)).resolve()
    if not path.is_relative_to(base.resolve()):
        raise ArtifactRefused(f"{uri} leads out of {base}")
    return path


def safe_name(name: str) -> PurePosixPath:
    """A relative name that stays in its folder.

    Raises:
        ArtifactRefused: it does not.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\x00" in name or name in (".", "./"):
        raise ArtifactRefused(f"the file name {name!r} is not a relative path inside its folder")
    return path


def copy_hashing(source: BinaryIO, target: BinaryIO) -> tuple[str, int]:
    """Copies and gives (SHA-256 in hex, bytes)."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def sha256_file(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file systems differ."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class NoRoom(OSError):
    """The disk would keep less than it shall (ENOSPC)."""

    def __init__(self, folder: Path, reserve: int) -> None:
        super().__init__(errno.ENOSPC, f"the disk of {folder} has less than {reserve} bytes left")


class Roomy:
    """A file in `folder` that is written until its disk has less than `reserve` bytes left."""

    def __init__(self, file: BinaryIO, folder: Path, reserve: int) -> None:
        self._file, self._folder, self._reserve, self._since = file, folder, reserve, 0

    def write(self, data: bytes, /) -> int:
        """Writes all of it.

        Raises:
            NoRoom: too little would be left.
        """
        self._since += len(data)
        if self._since >= LOOK:
            self._since = 0
            if shutil.disk_usage(self._folder).free < self._reserve:
                raise NoRoom(self._folder, self._reserve)
        return self._file.write(data)

    def seek(self, offset: int, /) -> int:
        """Goes to a byte, as who wrote a file to be read again does."""
        return self._file.seek(offset)
