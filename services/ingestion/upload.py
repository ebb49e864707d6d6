"""The body of a request as a file on disk, and of which kind it is. Holds a piece of it at a time. Reads no records."""

import asyncio
import errno
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from services.chassis.files import Roomy
from services.chassis.http.application import ApiError
from services.chassis.rows.reading import Kind, kind_of
from services.ingestion.settings import IngestionSettings
from services.ingestion.spool import spooled

TYPES: dict[str, Kind] = {
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/x-jsonlines": "jsonl",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow",
    "application/vnd.apache.arrow.stream": "arrow",
}
"""Gzip and zstd are known by the first bytes, so a `content-encoding` of theirs needs no more."""
RESERVE = "NORIA_INGESTION_UPLOAD_RESERVE_BYTES"


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload on disk, in a folder of the request that is gone when it is over; `unpacked` is room for its lines there."""

    path: Path
    kind: Kind
    unpacked: Path


class _Form(MultiPartParser):
    """Starlette's parser, whose one file goes to `target` rather than to the system's folder of temporary files."""

    target: Any

    def on_headers_finished(self) -> None:
        """A part begins."""
        super().on_headers_finished()
        if (file := self._current_part.file) is not None:
            file.file.close()
            file.file = self.target


@asynccontextmanager
async def received(request: Request, settings: IngestionSettings, kind: Kind | None = None) -> AsyncGenerator[Upload]:
    """The request's body or its multipart `file`; `kind` counts more than its type and its name.

    Raises:
        ApiError: 415 where the type is none of TYPES, 400 without `file`, 503 where the disk has no room.
    """
    async with spooled(settings.home / "uploads") as folder:
        path = folder / "upload"
        with path.open("wb") as file:
            found, name = await _written(request, Roomy(file, folder, settings.upload_reserve_bytes), kind)
        yield Upload(path.rename(folder / name), found, folder / ".rows.jsonl")


async def _written(request: Request, file: Roomy, kind: Kind | None) -> tuple[Kind, str]:
    try:
        if media_type(request.headers.get("content-type")) == "multipart/form-data":
            return await _part(request, file, kind)
        kind = kind or _kind(request.headers.get("content-type"), None)
        async for chunk in request.stream():
            await asyncio.to_thread(file.write, chunk)
        return kind, "upload"
    except OSError as error:
        raise no_room(error) from error


async def _part(request: Request, target: Roomy, kind: Kind | None) -> tuple[Kind, str]:
    try:
        async with aclosing(request.stream()) as stream:
            parser = _Form(request.headers, stream, max_files=1, max_fields=10)
            parser.target = target
            part = (await parser.parse()).get("file")
    except MultiPartException as error:
        raise ApiError(400, "bad_form", f"the form cannot be read: {error.message}") from error
    if not isinstance(part, UploadFile):
        raise ApiError(400, "no_file", "the form has no file named `file`")
    name = re.sub(r"[^\w.-]", "_", part.filename or "").lstrip(".")[-100:]
    return kind or _kind(part.content_type, part.filename), name or "upload"


def no_room(error: OSError) -> ApiError:
    """The answer where an upload cannot be written for lack of room; other errors are raised again."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    message = f"no room for the upload: {error.strerror}; free some, or set {RESERVE}, and send it again"
    return ApiError(503, "no_room", message, headers={"retry-after": "60"})


def media_type(header: str | None) -> str:
    """The type of a Content-Type header without its parameters."""
    return (header or "").split(";")[0].strip().lower()


def _kind(content_type: str | None, name: str | None) -> Kind:
    kind = (kind_of(name) if name else None) or TYPES.get(media_type(content_type))
    if kind is None:
        given = media_type(content_type)[:80]
        ways = f"give ?format= one of {', '.join(get_args(Kind))}, or a type of {', '.join(TYPES)}"
        raise ApiError(415, "unsupported_type", f"content type {given!r} does not say what the file is; {ways}")
    return kind
