"""Files of a model: written wholly or not at all, and their digests."""

import hashlib
import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write aside, fsync, rename: a crash leaves the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def publish(aside: Path, final: Path) -> None:
    """Rename the directory `aside` to `final`, which must not exist, once all its files are on disk."""
    for file in aside.rglob("*"):
        _sync(file)
    _sync(aside)
    aside.rename(final)
    _sync(final.parent)


def sha256_file(path: Path) -> str:
    """Hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(files: dict[str, str]) -> str:
    """Digest of a directory from its files' digests: SHA-256 of the sorted lines 'path sha256'."""
    lines = "".join(f"{path} {digest}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
