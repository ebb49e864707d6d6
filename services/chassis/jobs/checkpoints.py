"""Checkpoints of jobs in the artifact store, so that another machine, or one with an empty disk, goes on.

The newest one's reference stands in the job's row. A worker writes it into the job's folder before it starts the child;
the child compares it with what lies there, fetches it where it is further, and puts newer ones into the store.

Each file gets its job's mark at its end, so that no other job's file and no result has the same digest: then the job may
remove what it no longer needs, which of an artifact that others may name `noria gc` alone may do.
"""

import contextlib
import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from contracts.types import ArtifactRef, Files
from services.chassis.errors import ArtifactCorrupt, ArtifactMissing
from services.chassis.storage.artifacts import ArtifactStore

REFERENCE = "checkpoint.json"
MARK_BYTES = 32
SHARE = 20
"""An upload is followed by a pause of so many times what it took: at most a twentieth of the time goes into it."""


class Checkpoint(BaseModel):
    """Where a job stood after `step`: the files of its folder that it needs to go on, by relative name."""

    model_config = ConfigDict(frozen=True)

    step: int
    files: Files
    marked: bool = False
    """Whether the files end with the job's mark; those of an older release do not, and stay until `noria gc`."""


def write_reference(workdir: Path, checkpoint: dict[str, Any] | None) -> None:
    """Tells the child which checkpoint the job's row names."""
    place = workdir / REFERENCE
    if checkpoint is None:
        place.unlink(missing_ok=True)
        return
    workdir.mkdir(parents=True, exist_ok=True)
    aside = place.with_suffix(".aside")
    aside.write_text(Checkpoint.model_validate(checkpoint).model_dump_json())
    aside.replace(place)


def fetch(workdir: Path, artifacts: ArtifactStore, beyond: int) -> Path | None:
    """A folder with the files of the referred checkpoint; None where it is not further than the step `beyond`.

    A checkpoint that is lost or damaged costs the work since the one before, not the job.

    Raises:
        ArtifactUnavailable: the store does not answer; the work must not begin anew for that.
    """
    place = workdir / REFERENCE
    if not place.is_file():
        return None
    checkpoint = Checkpoint.model_validate_json(place.read_text())
    if checkpoint.step <= beyond:
        return None
    try:
        if not checkpoint.marked:
            return artifacts.materialise(checkpoint.files, workdir / "fetched")
        shutil.rmtree(workdir / "marked", ignore_errors=True)  # of a fetch that was killed, perhaps of another step
        return _without_marks(artifacts.materialise(checkpoint.files, workdir / "marked"), workdir / "fetched")
    except (ArtifactMissing, ArtifactCorrupt) as error:
        print(f"the checkpoint of step {checkpoint.step} cannot be used: {error}", file=sys.stderr)
        return None


def _mark(workdir: Path) -> bytes:
    """What tells a job's files from all others': the SHA-256 of its service and id, as its folder is named."""
    return hashlib.sha256(f"{workdir.parent.name}/{workdir.name}".encode()).digest()


def _with_marks(folder: Path, target: Path, mark: bytes) -> Path:
    """Copies of the files, each with the mark at its end."""
    for source in [path for path in folder.rglob("*") if path.is_file()]:
        place = target / source.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        with place.open("ab") as file:
            file.write(mark)
    return target


def _without_marks(folder: Path, target: Path) -> Path:
    """Copies of the files without the mark at their end; the folder itself goes."""
    shutil.rmtree(target, ignore_errors=True)
    for source in [path for path in folder.rglob("*") if path.is_file()]:
        place = target / source.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        os.truncate(place, place.stat().st_size - MARK_BYTES)
    shutil.rmtree(folder, ignore_errors=True)
    return target


class Uploader:
    """Puts checkpoints into the store beside the work, in a thread, one at a time and not too often.

    `report` hears {"checkpoint": ...} once one is there. A failed upload is told and forgotten: the next one comes.
    """

    def __init__(
        self, artifacts: ArtifactStore, workdir: Path, report: Callable[[dict[str, Any]], None], seconds: float
    ) -> None:
        self._artifacts = artifacts
        self._workdir = workdir
        self._report = report
        self._seconds = seconds
        self._due = time.monotonic() + seconds
        self._thread: threading.Thread | None = None
        self._stored: int | None = None
        for left in workdir.glob("upload-*"):
            shutil.rmtree(left, ignore_errors=True)

    def offer(self, step: int, files: Mapping[str, Path]) -> None:
        """Takes note of a checkpoint that stands on disk; uploads it where one is due and none is under way."""
        if time.monotonic() >= self._due and not self._busy():
            held = self._hold(step, files)
            self._thread = threading.Thread(target=self._upload, args=(step, held), daemon=True)
            self._thread.start()

    def flush(self, step: int, files: Mapping[str, Path]) -> None:
        """Uploads a last checkpoint before the process ends; waits for it."""
        if self._thread is not None:
            self._thread.join()
        if self._stored != step:
            self._upload(step, self._hold(step, files))

    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _hold(self, step: int, files: Mapping[str, Path]) -> Path:
        """Hard links, so that the job may remove its files meanwhile."""
        held = self._workdir / f"upload-{step}"
        for name, path in files.items():
            (held / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.link(path, held / name)
        return held

    def _upload(self, step: int, held: Path) -> None:
        began = time.monotonic()
        marked = held.with_name(f"{held.name}-marked")
        try:
            files = self._artifacts.put_directory(_with_marks(held, marked, _mark(self._workdir)))
            self._report({"checkpoint": Checkpoint(step=step, files=files, marked=True).model_dump(mode="json")})
            self._stored = step
        except Exception as error:
            print(f"the checkpoint of step {step} was not put into the store: {error}", file=sys.stderr)
        finally:
            for folder in (held, marked):
                shutil.rmtree(folder, ignore_errors=True)
            took = time.monotonic() - began
            self._due = time.monotonic() + max(self._seconds, SHARE * took)


def superseded(old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[ArtifactRef]:
    """The artifacts that the old checkpoint needed and the new one does not, and that are this job's alone."""
    if old is None or not Checkpoint.model_validate(old).marked:
        return []
    kept = {ref.sha256 for ref in Checkpoint.model_validate(new).files.values()} if new else set[str]()
    return [ref for ref in Checkpoint.model_validate(old).files.values() if ref.sha256 not in kept]


MARGIN = timedelta(days=1)
"""By so much the store's clock may be ahead: what is discarded was put by this job, whenever that was."""


def discard(artifacts: ArtifactStore, refs: Iterable[ArtifactRef]) -> None:
    """Removes a job's own artifacts that its row no longer refers to. What cannot be removed now is left to `noria gc`."""
    for ref in refs:
        try:
            artifacts.remove(ref.sha256, datetime.now(UTC) + MARGIN)
        except Exception as error:
            print(f"an old checkpoint stays in the store: {error}", file=sys.stderr)
