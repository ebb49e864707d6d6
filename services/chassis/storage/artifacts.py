"""Immutable files under their SHA-256 digest, on local disk or an object store. Knows nothing of what is in them.

Layout below the root: sha256/<first two digits>/<the other 62>. A file is written aside, synced, hashed and then
renamed, so that a name never stands for half a content.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from contracts.types import ArtifactRef, Files
from services.chassis.errors import ArtifactCorrupt, ArtifactMissing, ArtifactRefused, ArtifactUnavailable
from services.chassis.files import (
    collecting,
    copy_hashing,
    inside,
    link_or_copy,
    safe_name,
    sha256_file,
    sync_folder,
    touched,
)
from services.chassis.settings import Settings
from services.chassis.storage.object_store import Objects, open_objects


def open_store(settings: Settings) -> "ArtifactStore":
    """The store that the settings name, readable at its own root and at `artifact_roots`."""
    return ArtifactStore(settings.artifact_root, settings.home / "cache" / "artifacts", tuple(settings.artifact_roots))


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact in the store: its SHA-256, its size, and when it was last put."""

    sha256: str
    bytes: int
    at: datetime


class ArtifactStore:
    """Puts and gets files by digest. All methods block; call them from a worker thread or a job.

    Every one raises ArtifactUnavailable where the store does not answer; a full disk is an OSError.
    """

    def __init__(self, root: str, cache: Path, roots: tuple[str, ...] = ()) -> None:
        self.root = root.rstrip("/")
        self._roots = (self.root, *(r.rstrip("/") for r in roots))
        self._local = local_path(self.root)
        self._cache = cache
        self._objects: dict[str, Objects] = {}
        self._verified: set[tuple[str, int, int, int]] = set()
        self._lock = threading.Lock()

    def put_bytes(self, data: bytes) -> ArtifactRef:
        """Stores `data`."""
        with self._aside() as (aside, file):
            file.write(data)
            return self._publish(aside, file, hashlib.sha256(data).hexdigest(), len(data))

    def put_file(self, path: Path) -> ArtifactRef:
        """Stores a copy of the file."""
        with self._aside() as (aside, file), path.open("rb") as source:
            digest, size = copy_hashing(source, file)
            return self._publish(aside, file, digest, size)

    def put_directory(self, path: Path) -> Files:
        """Stores every file below `path`; names are relative, with '/' between the parts."""
        found = sorted(p for p in path.rglob("*") if p.is_file())
        return {p.relative_to(path).as_posix(): self.put_file(p) for p in found}

    def get(self, ref: ArtifactRef) -> Path:
        """A local file with exactly the referred content; do not write to it.

        Raises:
            ArtifactRefused: its URI is below none of the allowed roots.
            ArtifactMissing: nothing lies there.
            ArtifactCorrupt: what lies there has another size or digest.
        """
        root = self._allowed(ref.uri)
        base = local_path(root)
        path = self._cached(root, ref) if base is None else inside(base, ref.uri)
        if not path.is_file():
            if base is not None and not base.is_dir():
                raise ArtifactUnavailable(f"the store's folder {base} is not there; is its disk mounted?")
            raise ArtifactMissing(f"no artifact lies at {ref.uri}; was its store moved or cleaned?")
        self._verify(path, ref)
        return path

    def read_bytes(self, ref: ArtifactRef, limit: int = 64 << 20) -> bytes:
        """The content, refused above `limit` bytes."""
        if ref.bytes > limit:
            raise ArtifactRefused(f"{ref.uri} has {ref.bytes} bytes; at most {limit} are read here")
        return self.get(ref).read_bytes()

    def materialise(self, files: Files, target: Path) -> Path:
        """The folder `target` with `files` as hard links or copies; it appears whole or not at all.

        Raises:
            ArtifactRefused: a name is absolute, empty or leaves the folder.
        """
        if target.is_dir() and all((target / safe_name(name)).is_file() for name in files):
            return target
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            for name, ref in files.items():
                place = aside / safe_name(name)
                place.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(self.get(ref), place)
            aside.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return target

    def _allowed(self, uri: str) -> str:
        for root in self._roots:
            if uri.startswith(root + "/") and ".." not in unquote(uri).split("/"):
                return root
        raise ArtifactRefused(f"{uri} lies outside the allowed roots {', '.join(self._roots)} (NORIA_ARTIFACT_ROOTS)")

    def _store(self, root: str) -> Objects:
        with self._lock:
            if root not in self._objects:
                self._objects[root] = open_objects(root)
            return self._objects[root]

    def _cached(self, root: str, ref: ArtifactRef) -> Path:
        path = self._cache / relative(ref.sha256)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            try:
                self._store(root).download(ref.uri[len(root) + 1 :], aside)
                self._verify(aside, ref)
                aside.rename(path)
            finally:
                aside.unlink(missing_ok=True)
        os.utime(path, (time.time(), path.stat().st_mtime))  # when it was last wanted, see forget_cached
        return path

    def _verify(self, path: Path, ref: ArtifactRef) -> None:
        stat = path.stat()
        mark = (ref.sha256, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if mark in self._verified:
            return
        if stat.st_size != ref.bytes:
            raise ArtifactCorrupt(f"{ref.uri} has {stat.st_size} bytes, not {ref.bytes}; restore it from a copy")
        digest = sha256_file(path)
        if digest != ref.sha256:
            raise ArtifactCorrupt(f"{ref.uri} has the digest {digest}, not {ref.sha256}; restore it from a copy")
        self._verified.add(mark)

    @contextmanager
    def _aside(self) -> Generator[tuple[Path, BinaryIO]]:
        folder = (self._local or self._cache) / "aside"
        path = folder / uuid.uuid4().hex
        with answering(self.root):
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("wb")
        try:
            with file:
                yield path, file
        finally:
            path.unlink(missing_ok=True)

    def _publish(self, aside: Path, file: BinaryIO, digest: str, size: int) -> ArtifactRef:
        file.flush()
        os.fsync(file.fileno())
        ref = ArtifactRef(uri=f"{self.root}/{relative(digest)}", sha256=digest, bytes=size)
        if self._local is None:
            self._store(self.root).upload(aside, relative(digest))
            return ref
        path = self._local / relative(digest)
        with answering(self.root), collecting(self._local, exclusive=False):
            if not (path.is_file() and path.stat().st_size == size and touched(path)):
                path.parent.mkdir(parents=True, exist_ok=True)
                aside.chmod(0o444)
                aside.rename(path)
                sync_folder(path.parent)
        return ref

    def stored(self) -> Iterator[Stored]:
        """Every artifact that lies in the store, folder by folder or page by page."""
        if self._local is None:
            for name, size, at in self._store(self.root).listing("sha256"):
                yield Stored("".join(name.split("/")[-2:]), size, at)
            return
        for folder in sorted((self._local / "sha256").glob("??")):
            with os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # another collection was quicker
                        stat = entry.stat()
                        yield Stored(folder.name + entry.name, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def remove(self, digest: str, before: datetime) -> bool:
        """Deletes an artifact unless it was put again since `before`; whether it did.

        On the local disk no put happens between the look and the deletion. An object store has no such lock: a put of the
        same content in the milliseconds between the two is lost.
        """
        name = relative(digest)
        if self._local is None:
            objects = self._store(self.root)
            at = objects.put_at(name)
            if at is None or at >= before:
                return False
            objects.delete(name)
            return True
        path = self._local / name
        with collecting(self._local, exclusive=True):
            if not path.is_file() or datetime.fromtimestamp(path.stat().st_mtime, UTC) >= before:
                return False
            path.unlink()
        return True

    def forget_cached(self, before: datetime) -> int:
        """Deletes the local copies of an object store's artifacts that nobody wanted since `before`; how many they were."""
        count = 0
        for path in (self._cache / "sha256").glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                if datetime.fromtimestamp(path.stat().st_atime, UTC) < before:
                    path.unlink()
                    count += 1
        return count

    def write(self, name: str, content: bytes) -> None:
        """Puts a small file of the store itself, in place of an older one."""
        with self._aside() as (aside, file):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if self._local is None:
                self._store(self.root).upload(aside, name)
            else:
                aside.rename(self._local / name)

    def read(self, name: str) -> bytes | None:
        """What `write` put; None where it put nothing."""
        if self._local is not None:
            path = self._local / name
            return path.read_bytes() if path.is_file() else None
        return self._store(self.root).content(name)

    def left_aside(self, before: datetime) -> Iterator[tuple[Path, int]]:
        """Files that a killed process left half-written before that moment, with their bytes."""
        for path in ((self._local or self._cache) / "aside").glob("*"):
            stat = path.stat()
            if datetime.fromtimestamp(stat.st_mtime, UTC) < before:
                yield path, stat.st_size


@contextmanager
def answering(root: str) -> Generator[None]:
    """What the file system of a store says, as ArtifactUnavailable; that it is full passes as it is."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ArtifactUnavailable(f"the store {root} cannot be written: {error}") from error


def relative(digest: str) -> str:
    """Where a digest lies below a root."""
    return f"sha256/{digest[:2]}/{digest[2:]}"


def local_path(root: str) -> Path | None:
    """The folder of a file:// root; None for another scheme."""
    parts = urlsplit(root)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
