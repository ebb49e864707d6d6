"""The body of a request as a file on disk, and of which kind it is. Reads no records."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fastapi import Request
from starlette.datastructures import UploadFile

from services.chassis.http.application import ApiError
from services.chassis.rows.reading import Kind, kind_of

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
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload on disk; the file is gone when the request is over."""

    path: Path
    kind: Kind


@asynccontextmanager
async def received(request: Request) -> AsyncGenerator[Upload]:
    """The request's body or its multipart `file`.

    Raises:
        ApiError: 415 where the type is none of TYPES, 400 without `file`.
    """
    with tempfile.NamedTemporaryFile(prefix="noria-upload-") as file:
        if media_type(request.headers.get("content-type")) == "multipart/form-data":
            kind = await _part(request, file)
        else:
            kind = _kind(request.headers.get("content-type"), None)
            async for chunk in request.stream():
                await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(file.flush)
        yield Upload(Path(file.name), kind)


def media_type(header: str | None) -> str:
    """The type of a Content-Type header without its parameters."""
    return (header or "").split(";")[0].strip().lower()


async def _part(request: Request, file: IO[bytes]) -> Kind:
    async with request.form(max_files=1, max_fields=10) as form:
        part = form.get("file")
        if not isinstance(part, UploadFile):
            raise ApiError(400, "no_file", "the form has no file named `file`")
        kind = _kind(part.content_type, part.filename)
        while chunk := await part.read(CHUNK):
            await asyncio.to_thread(file.write, chunk)
    return kind


def _kind(content_type: str | None, name: str | None) -> Kind:
    kind = (kind_of(name) if name else None) or TYPES.get(media_type(content_type))
    if kind is None:
        given = media_type(content_type)[:80]
        raise ApiError(415, "unsupported_type", f"content type {given!r} is not taken; give {', '.join(TYPES)}")
    return kind
