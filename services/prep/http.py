"""Prep's HTTP interface: datasets, what waits for the next one, and a freeze on demand."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from contracts.events.prep import Tag
from contracts.kinds import lacking, unusable
from contracts.project import ProjectSpec
from contracts.types import ArtifactRef
from services.chassis.context import Context
from services.chassis.http.application import ApiError, Number, errors
from services.chassis.http.artifacts import telling
from services.chassis.http.projects import check_in_service
from services.chassis.jobs.job import tries_of
from services.chassis.page import HEADERS
from services.chassis.storage import pages
from services.prep import annotations, handlers, segments
from services.prep.dataset_routes import add_routes, dataset_of
from services.prep.domain import reading
from services.prep.domain.policy import Pending, describe_next_freeze
from services.prep.store import COUNTED, SqlStore
from services.prep.tables import DatasetRow, RecordRow

NEWEST = 20
Limit = Annotated[int, Query(ge=1, le=500)]
PAGE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {}}, "description": "A page"}}
FROZEN: dict[int | str, dict[str, Any]] = {202: {"description": "A freeze was begun"}}


def make_router(ctx: Context[SqlStore]) -> APIRouter:
    """The routes of a running service."""
    router = APIRouter()

    @router.get("/v1/datasets")
    async def datasets(
        project: str | None = None,
        tag: Annotated[str | None, Query(description="Those that have it alone")] = None,
        limit: Limit = 50,
        after: str | None = None,
    ) -> dict[str, Any]:
        place = pages.decode(after, pages.moment, str, int)
        return await ctx.read(lambda store: _datasets(store, project, tag, limit, place))

    @router.get("/v1/datasets/{project}/{number}", responses=errors(404))
    async def dataset(project: str, number: Number) -> dict[str, Any]:
        return await ctx.read(lambda store: shown(store, dataset_of(store, project, number)))

    @router.get("/v1/datasets/{project}/{number}/report", responses=PAGE | errors(404, 409, 503))
    async def report(project: str, number: Number) -> HTMLResponse:
        def content(store: SqlStore) -> bytes:
            with telling():
                return ctx.artifacts.read_bytes(ArtifactRef.model_validate(dataset_of(store, project, number).report))

        return HTMLResponse(await ctx.read(content), headers=HEADERS)

    @router.get("/v1/datasets/{project}/{number}/profile", responses=errors(404, 409, 503))
    async def profile(project: str, number: Number) -> dict[str, Any]:
        def content(store: SqlStore) -> bytes:
            with telling():
                return ctx.artifacts.read_bytes(ArtifactRef.model_validate(dataset_of(store, project, number).profile))

        return json.loads(await ctx.read(content))

    @router.get("/v1/projects/{project}/pending", responses=errors(404))
    async def pending(project: str) -> dict[str, Any]:
        return await ctx.read(lambda store: _pending(store, project, datetime.now(UTC)))

    @router.post("/v1/projects/{project}/freeze", responses=FROZEN | errors(404, 409))
    async def freeze(project: str) -> JSONResponse:
        asked = await ctx.transact(lambda store: (_freeze(store, project), ()))
        if isinstance(asked, str):
            return JSONResponse({"job": asked}, status_code=202)
        return JSONResponse({"unchanged": True, "dataset": asked})

    add_routes(router, ctx)
    _add_annotate(router, ctx)
    return router


def _add_annotate(router: APIRouter, ctx: Context[SqlStore]) -> None:
    @router.post("/v1/datasets/{project}/{number}/annotate", responses=errors(404, 409))
    async def annotate(project: str, number: Number, body: Annotate) -> dict[str, Any]:
        """Add tags, remove some, or say something else of a dataset; its files and its version stay what they are."""
        now = datetime.now(UTC)

        def write(store: SqlStore) -> Any:
            dataset = dataset_of(store, project, number)
            before = annotations.of_dataset(store.session, project, number, lock=True)
            try:
                event = annotations.changed(before, project, number, body.add, body.remove, body.note, body.by)
            except annotations.TooManyTags as error:
                raise ApiError(409, "too_many_tags", str(error)) from error
            if event is not None:
                annotations.keep(store.session, event, now)
            return shown(store, dataset), () if event is None else (event,)

        return await ctx.transact(write, at=now)


class Annotate(BaseModel):
    """What a person says of a dataset: tags more, tags less, and another note where there is one."""

    model_config = ConfigDict(extra="forbid")

    add: list[Tag] = Field(default_factory=list[str], max_length=annotations.MOST_TAGS)
    remove: list[Tag] = Field(default_factory=list[str], max_length=annotations.MOST_TAGS)
    note: str | None = Field(default=None, max_length=10_000)
    by: str = Field(min_length=1, max_length=200)


def shown(store: SqlStore, dataset: DatasetRow) -> dict[str, Any]:
    """A dataset as the API gives it."""
    return all_shown(store, [dataset])[0]


def all_shown(store: SqlStore, datasets: Sequence[DatasetRow]) -> list[dict[str, Any]]:
    """Datasets as the API gives them."""
    said = annotations.of_datasets(store.session, datasets)
    revisions = {(dataset.project, dataset.project_revision) for dataset in datasets}
    specs = {revision: store.projects.at(*revision) for revision in revisions}
    return [
        dataset.model_dump(mode="json")
        | {"unusable": _unusable(dataset, specs[dataset.project, dataset.project_revision])}
        | one.document()
        for dataset, one in zip(datasets, said, strict=True)
    ]


def _unusable(dataset: DatasetRow, spec: ProjectSpec | None) -> dict[str, int] | None:
    """Of a dataset's training records those that the project's method learns nothing from, by kind; None where nobody knows."""
    return None if spec is None or dataset.kinds is None else unusable(spec.train.methods, dataset.kinds["train"])


def _datasets(
    store: SqlStore, project: str | None, tag: str | None, limit: int, place: tuple[Any, ...] | None
) -> dict[str, Any]:
    found = store.datasets(project, place, limit + 1, *(() if tag is None else (annotations.tagged(tag),)))
    page = pages.page(found, limit, lambda dataset: [dataset.frozen_at.isoformat(), dataset.project, dataset.number])
    failures = [{"project": failed.project, **(failed.failure or {})} for failed in store.failures(project)]
    return page | {"items": all_shown(store, page["items"]), "failures": failures}


def _project(store: SqlStore, project: str) -> tuple[str, ProjectSpec]:
    known = store.projects.current(project)
    if known is None:
        raise ApiError(404, "unknown_project", f"no project {project!r} is defined; define it with `noria apply`")
    return known


def _freeze(store: SqlStore, project: str) -> str | dict[str, Any]:
    revision, _ = _project(store, project)
    check_in_service(store.projects, project)
    if not store.has_records(project):
        raise ApiError(409, "no_records", f"project {project!r} has no accepted records; send some first")
    asked = handlers.freeze_now(project, revision, store)
    return asked if isinstance(asked, str) else shown(store, asked)


def _pending(store: SqlStore, project: str, now: datetime) -> dict[str, Any]:
    _, spec = _project(store, project)
    progress = store.seen(project)
    frozen = progress.frozen_positions if progress else {}
    tried = progress.tried_positions if progress else {}
    still = handlers.quiet(progress, store.positions(project), now) if progress else 0.0
    job = store.jobs.get(progress.job) if progress and progress.job else None
    waiting = Pending(store.changed(project, tried), still)
    newest, kinds = store.newest(project), store.kinds(project)
    return {
        "newest": newest
        and {
            "number": newest.number,
            "method": ", ".join(spec.train.methods),
            "kinds": newest.kinds and newest.kinds["train"],
            "unusable": _unusable(newest, spec),
        },
        "kinds": kinds,
        "kinds_counted_to": COUNTED,
        "unusable": unusable(spec.train.methods, kinds),
        "lacking": lacking(spec.train.methods, kinds),
        "changed": store.changed(project, frozen),
        "total": store.total(project),
        "compacted": store.total(project) - segments.tail_rows(store.session.connection(), project),
        "records": [_waiting(record, spec) for record in store.latest(project, frozen, NEWEST)],
        "next_freeze": f"now: {job.id} is {job.status}" if job else describe_next_freeze(waiting, spec.prep.freeze),
        "job": {"id": job.id, "status": job.status, **tries_of(job), "progress": job.progress} if job else None,
        "failure": progress.failure if progress else None,
    }


def _waiting(record: RecordRow, spec: ProjectSpec) -> dict[str, Any]:
    return {
        "record_id": record.record_id,
        "revision": record.revision,
        "tags": json.loads(record.tags),
        "split": reading.split(record.format, record.record, record.subject, json.loads(record.tags), spec.prep),
        "accepted_at": record.accepted_at.isoformat(),
        "shape": record.shape,
    }
