"""An upload as batches of items: JSON lines as they lie, other files by a process of their own that makes JSON lines of them."""

import asyncio
import errno
import sys
from collections.abc import Iterator

from contracts.envelope import Malformed
from services.chassis.http.application import ApiError
from services.chassis.rows.opened import GZIP, ZSTD, first_bytes, opened
from services.chassis.rows.reading import COLUMNAR
from services.chassis.rows.row import Unreadable
from services.chassis.rows.text import holds_lines
from services.ingestion import record_reader
from services.ingestion.domain.policy import Policy
from services.ingestion.record_reader import Batch
from services.ingestion.settings import IngestionSettings
from services.ingestion.upload import Upload, no_room

UNPACKED = 4
"""A file may unpack to so many times the longest upload."""


PROGRAM = ("-m", "services.chassis.rows.unpack")


async def batches_of(upload: Upload, project: str, policy: Policy, settings: IngestionSettings) -> Iterator[Batch]:
    """The upload's batches; nothing of a file that cannot be read is among them.

    Raises:
        ApiError: 400 with the code of Unreadable, 503 where the disk has no room.
    """
    try:
        if (found := await asyncio.to_thread(_as_it_lies, upload, project, policy, settings)) is not None:
            return found
    except Unreadable as error:
        raise ApiError(400, error.code, str(error)) from error
    except Malformed as error:
        if error.reason != "not_json":
            raise ApiError(400, error.reason, str(error)) from error
    await _unpack(upload, settings)
    return record_reader.of_jsonl(upload.unpacked, project, policy)


def _as_it_lies(upload: Upload, project: str, policy: Policy, settings: IngestionSettings) -> Iterator[Batch] | None:
    """Batches of JSON lines, and of JSON that is short enough to be read whole; None for all else."""
    if upload.kind not in ("json", "jsonl") or first_bytes(upload.path).startswith((GZIP, ZSTD, *COLUMNAR)):
        return None
    with opened(upload.path) as file:
        if file.encoding != "utf-8":
            return None
    if upload.kind == "jsonl" or holds_lines(upload.path):
        return record_reader.of_jsonl(upload.path, project, policy)
    if upload.path.stat().st_size <= settings.json_bytes:
        return record_reader.of_json(upload.path, project, policy)
    return None


async def _unpack(upload: Upload, settings: IngestionSettings) -> None:
    bounds = (str(UNPACKED * settings.upload_bytes), str(settings.upload_reserve_bytes))
    command = (sys.executable, *PROGRAM, upload.path, upload.kind, upload.unpacked, *bounds)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(settings.unpack_seconds):
            _, said = await process.communicate()
    except TimeoutError as error:
        raise ApiError(
            400,
            "too_slow",
            f"reading the file took more than {settings.unpack_seconds:g} s (NORIA_INGESTION_UNPACK_SECONDS); send it in parts",
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        code, _, message = (last or [""])[0].partition(": ")
        if code == "no_room":
            raise no_room(OSError(errno.ENOSPC, message))
        known = code.isidentifier() and code.islower() and message
        raise ApiError(400, code, message) if known else ApiError(400, "unreadable_file", "the file cannot be read")
