"""Routes into a dataset's files: pages of rows and drops, a file as it lies, what changed between two. Decides nothing."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from contracts.types import ArtifactRef
from services.chassis.context import Context
from services.chassis.errors import ArtifactCorrupt, ArtifactMissing
from services.chassis.http.application import ApiError, Number, errors
from services.chassis.http.artifacts import telling
from services.chassis.storage import pages
from services.prep.domain.drift import drift
from services.prep.domain.filters import DROP_FIELDS, ROW_FIELDS, Filter, FilterInvalid, parse_all
from services.prep.domain.rows import DROPS, SPLITS, Split
from services.prep.store import SqlStore
from services.prep.tables import DatasetRow

ORDER = ("digest", "record_id")
"""Rows of a split are sorted so, and their pages too."""
DROP_ORDER = ("record_id",)
AT_ONCE = 2
"""Requests that read files at one time; others wait for their turn."""
Where = Annotated[
    list[str],
    Query(description='Filters, all of which hold: FIELD OP VALUE, as `tags.tool = tar` or `record ~ "git push"`'),
]
Limit = Annotated[int, Query(ge=1, le=500)]
After = Annotated[str | None, Query(description="The `next` of the page before")]
FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/vnd.apache.parquet": {}}, "description": "Parquet"}
}
READING = errors(400, 404, 409, 503)


def dataset_of(store: SqlStore, project: str, number: int) -> DatasetRow:
    """A dataset. Raises ApiError 404."""
    found = store.dataset(project, number)
    if found is None:
        raise ApiError(404, "unknown_dataset", f"project {project!r} has no dataset {number}; see GET /v1/datasets")
    return found


def add_routes(router: APIRouter, ctx: Context[SqlStore]) -> None:
    """Adds the routes to prep's."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def local(project: str, number: int, names: Sequence[str]) -> dict[str, Path]:
        found = await ctx.read(lambda store: dataset_of(store, project, number))
        return await asyncio.to_thread(_local, ctx, found, names)

    @router.get("/v1/datasets/{project}/{number}/rows", responses=READING)
    async def rows(
        project: str,
        number: Number,
        split: Split | None = None,
        where: Where = [],  # noqa: B006 - FastAPI copies it
        fields: Annotated[str | None, Query(description="Columns, with commas between; all where not given")] = None,
        after: After = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        filters = _filters(where, ROW_FIELDS)
        wanted = _columns(fields)
        place = pages.decode(after, str, str, str)
        parts = [split] if split else list(SPLITS)
        files = await local(project, number, parts)
        async with turn:
            return await asyncio.to_thread(_rows, files, filters, wanted, place, limit)

    @router.get("/v1/datasets/{project}/{number}/drops", responses=READING)
    async def drops(
        project: str,
        number: Number,
        reason: str | None = None,
        where: Where = [],  # noqa: B006 - FastAPI copies it
        after: After = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        filters = _filters(where, DROP_FIELDS)
        filters += (Filter("reason", "=", reason),) if reason is not None else ()
        place = pages.decode(after, str)
        files = await local(project, number, [DROPS])
        async with turn:
            return await asyncio.to_thread(_drops, files[DROPS], filters, place, limit)

    @router.get("/v1/datasets/{project}/{number}/files/{name}", responses=FILE | READING)
    async def file(project: str, number: Number, name: str) -> FileResponse:
        files = await local(project, number, [name])
        return FileResponse(files[name], media_type="application/vnd.apache.parquet")

    @router.get("/v1/datasets/{project}/{number}/changes", responses=READING)
    async def changes(
        project: str,
        number: Number,
        since: Annotated[
            int, Query(ge=0, le=2**31 - 1, description="The number of the dataset that it is compared with")
        ],
        limit: Annotated[int, Query(ge=1, le=500, description="Examples of each kind")] = 20,
    ) -> dict[str, Any]:
        earlier, later = [await local(project, each, SPLITS) for each in (since, number)]
        profiles = [await ctx.read(lambda store, n=n: _profile(ctx, store, project, n)) for n in (since, number)]
        async with turn:
            return await asyncio.to_thread(_changes, earlier, later, profiles, limit)


def _local(ctx: Context[SqlStore], dataset: DatasetRow, names: Sequence[str]) -> dict[str, Path]:
    """Where files of a dataset lie here. Raises ApiError: a name is unknown, a file is lost or altered."""
    unknown = [name for name in names if name not in dataset.files]
    if unknown:
        known = ", ".join(dataset.files)
        raise ApiError(404, "unknown_file", f"dataset {dataset.number} has no file {unknown[0]!r}; it has {known}")
    with telling():
        return {name: ctx.artifacts.get(ArtifactRef.model_validate(dataset.files[name])) for name in names}


def _profile(ctx: Context[SqlStore], store: SqlStore, project: str, number: int) -> dict[str, Any]:
    """A dataset's profile; without it where its file is gone: it can be made anew, the rows tell more."""
    try:
        ref = ArtifactRef.model_validate(dataset_of(store, project, number).profile)
        return json.loads(ctx.artifacts.read_bytes(ref))
    except (ArtifactMissing, ArtifactCorrupt):
        return {}


def _filters(where: Sequence[str], fields: Any) -> tuple[Filter, ...]:
    try:
        return parse_all(where, fields)
    except FilterInvalid as error:
        raise ApiError(400, "invalid_filter", str(error)) from error


def _columns(fields: str | None) -> list[str] | None:
    if fields is None:
        return None
    wanted = [name.strip() for name in fields.split(",")]
    unknown = [name for name in wanted if name not in COLUMNS]
    if unknown:
        raise ApiError(400, "invalid_fields", f"no column {unknown[0][:60]!r}; there are {', '.join(COLUMNS)}")
    return wanted


COLUMNS = ("record_id", "revision", "format", "record", "digest", "prompt_key", "tags", "subject", "accepted_at")


def _rows(
    files: dict[str, Path],
    filters: tuple[Filter, ...],
    fields: list[str] | None,
    place: tuple[Any, ...] | None,
    limit: int,
) -> dict[str, Any]:
    """Splits one after another, in their order; a place is (split, digest, record_id)."""
    from services.prep import browse

    names = list(files)
    if place is not None and place[0] not in names:
        raise ApiError(400, "invalid_cursor", "`after` is of other splits; give the `next` of an earlier page of these")
    items: list[dict[str, Any]] = []
    for split in names[names.index(place[0]) if place else 0 :]:
        if len(items) == limit:
            return {"items": items, "next": pages.encode([split, "", ""])}
        behind = place[1:] if place and split == place[0] else None
        found, last = browse.page(files[split], ORDER, filters, fields or COLUMNS, behind, limit - len(items))
        items += [{"split": split, **row} for row in found]
        if last is not None:
            return {"items": items, "next": pages.encode([split, *last])}
    return {"items": items, "next": None}


def _changes(
    earlier: dict[str, Path], later: dict[str, Path], profiles: Sequence[dict[str, Any]], limit: int
) -> dict[str, Any]:
    from services.prep.difference import difference

    return difference(earlier, later, limit) | {"figures": drift(*profiles)}


def _drops(path: Path, filters: tuple[Filter, ...], place: tuple[Any, ...] | None, limit: int) -> dict[str, Any]:
    from services.prep import browse

    fields = ("record_id", "reason", "because_of", "format", "record", "tags", "subject")
    found, last = browse.page(path, DROP_ORDER, filters, fields, place, limit)
    return {"items": found, "next": pages.encode(list(last)) if last else None}
