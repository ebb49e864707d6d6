"""An upload as batches of items: JSON lines as they lie, other files by a process of their own that makes JSON lines of them."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

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
from services.ingestion.upload import Upload

UNPACKED = 4
"""A file may unpack to so many times the longest upload."""


async def batches_of(
    upload: Upload, project: str, policy: Policy, settings: IngestionSettings, unpacked: Path
) -> Iterator[Batch]:
    """The upload's batches; nothing of a file that cannot be read is among them.

    Raises:
        ApiError: 400 with the code of Unreadable.
    """
    try:
        if (found := await asyncio.to_thread(_as_it_lies, upload, project, policy, settings)) is not None:
            return found
    except Unreadable as error:
        raise ApiError(400, error.code, str(error)) from error
    except Malformed as error:
        if error.reason != "not_json":
            raise ApiError(400, error.reason, str(error)) from error
    await _unpack(upload, unpacked, settings)
    return record_reader.of_jsonl(unpacked, project, policy)


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


async def _unpack(upload: Upload, target: Path, settings: IngestionSettings) -> None:
    most = str(UNPACKED * settings.upload_bytes)
    command = (sys.executable, "-m", "services.chassis.rows.unpack", upload.path, upload.kind, target, most)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(settings.unpack_seconds):
            _, said = await process.communicate()
    except TimeoutError as error:
        raise ApiError(400, "too_slow", "reading the file took too long; send it in parts") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        code, _, message = (last or [""])[0].partition(": ")
        known = code.isidentifier() and code.islower() and message
        raise ApiError(400, code, message) if known else ApiError(400, "unreadable_file", "the file cannot be read")
