"""The registry's routes: projects, model versions, lineage, comparison, and promotion by hand. Knows no SQL."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.chassis.context import Context
from services.chassis.http.application import ApiError, Number, errors
from services.chassis.http.guard import By as Caller
from services.chassis.http.guard import needs
from services.chassis.storage.pages import decode, moment, page
from services.registry.domain.version import ModelVersion
from services.registry.domain.views import compared, lineage, shown, transition
from services.registry.projects import check_system_prompt, define, view
from services.registry.store import Store
from services.registry.transitions import Deed, NothingBefore, promote, rollback

Limit = Annotated[int, Query(ge=1, le=200)]
After = Annotated[str | None, Query(description="`next` of an earlier page")]
Version = Annotated[int, Query(ge=0, le=2**31 - 1)]


class By(BaseModel):
    """Who moves a version by hand, and why."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field(min_length=1, max_length=200)
    reason: str = Field(default="", max_length=5000)


def make_router(ctx: Context[Store]) -> APIRouter:
    """All routes."""
    routes = APIRouter(prefix="/v1")
    _add_projects(routes, ctx)
    _add_models(routes, ctx)
    _add_deeds(routes, ctx)
    return routes


def _add_projects(routes: APIRouter, ctx: Context[Store]) -> None:
    @routes.post("/projects")
    @needs("operate", by_handler=True)
    async def post(body: dict[str, JsonValue], caller: Caller) -> dict[str, Any]:
        """Define a project or change it; an unchanged one is left alone."""
        caller.check(str(body.get("project")))
        await asyncio.to_thread(check_system_prompt, body, ctx.settings.cache)
        now = datetime.now(UTC)
        return await ctx.transact(lambda store: define(store, body, now), at=now)

    @routes.get("/projects")
    async def projects(limit: Limit = 50, after: After = None) -> dict[str, Any]:
        """Projects in alphabetical order."""
        place = decode(after, str)

        def read(store: Store) -> list[dict[str, Any]]:
            return [view(store, name) for name in store.project_names(limit + 1, place[0] if place else None)]

        return page(await ctx.read(read), limit, lambda item: [item["project"]])

    @routes.get("/projects/{project}", responses=errors(404))
    async def project(project: str) -> dict[str, Any]:
        """A project's specification in force and all its revisions."""
        return await ctx.read(lambda store: view(store, project))


def _add_models(routes: APIRouter, ctx: Context[Store]) -> None:
    @routes.get("/models")
    async def models(project: str | None = None, limit: Limit = 50, after: After = None) -> dict[str, Any]:
        """Model versions, newest first."""
        place = decode(after, moment, str)
        rows = await ctx.read(lambda store: [shown(v) for v in store.versions(project, limit + 1, place)])
        return page(rows, limit, lambda item: [item["created_at"], item["run_id"]])

    @routes.get("/models/{name}/compare", responses=errors(404))
    @needs("read", project="name")
    async def compare(name: str, a: Version, b: Version) -> dict[str, Any]:
        """Two versions of a model, metric by metric."""
        return await ctx.read(lambda store: compared(_version(store, name, a), _version(store, name, b)))

    @routes.get("/models/{name}/history", responses=errors(404))
    @needs("read", project="name")
    async def history(name: str, limit: Limit = 50, after: After = None) -> dict[str, Any]:
        """Every transition of a model's versions, oldest first."""
        start = place[0] if (place := decode(after, int)) else 0
        rows = await ctx.read(lambda store: [transition(entry) for entry in store.history(name)])
        numbered = [{"number": number, **row} for number, row in enumerate(rows, 1) if number > start]
        if not rows:
            raise _unknown(name)
        return page(numbered[: limit + 1], limit, lambda item: [item["number"]])

    @routes.get("/models/{name}/{version}", responses=errors(404))
    @needs("read", project="name")
    async def model(name: str, version: Number) -> dict[str, Any]:
        """One version."""
        return await ctx.read(lambda store: shown(_version(store, name, version)))

    @routes.get("/models/{name}/{version}/lineage", responses=errors(404))
    @needs("read", project="name")
    async def lineage_of(name: str, version: Number) -> dict[str, Any]:
        """What a version was made of."""

        def read(store: Store) -> dict[str, Any]:
            found = _version(store, name, version)
            spec = store.projects.at(found.trained.project, found.trained.project_revision)
            return lineage(found, spec, store.history(name))

        return await ctx.read(read)


def _add_deeds(routes: APIRouter, ctx: Context[Store]) -> None:
    @routes.post("/models/{name}/rollback", responses=errors(404, 409))
    @needs("approve", project="name")
    async def back(name: str, body: By) -> dict[str, Any]:
        """Put the version before the present one back into production."""
        deed = Deed(body.by, body.reason, datetime.now(UTC))

        def write(store: Store) -> Any:
            try:
                version, events = rollback(store, name, deed)
            except NothingBefore as error:
                raise ApiError(409, "nothing_to_roll_back_to", str(error)) from error
            return {**shown(_version(store, name, version.version)), "changed": True}, events

        return await ctx.transact(write, at=deed.at)

    @routes.post("/models/{name}/{version}/promote", responses=errors(404, 409))
    @needs("approve", project="name")
    async def up(name: str, version: Number, body: By) -> dict[str, Any]:
        """Put a version of any stage into production."""
        deed = Deed(body.by, body.reason, datetime.now(UTC))

        def write(store: Store) -> Any:
            store.lock(name)
            events = tuple(promote(store, _version(store, name, version), "promote", deed))
            return {**shown(_version(store, name, version)), "changed": bool(events)}, events

        return await ctx.transact(write, at=deed.at)


def _version(store: Store, name: str, version: int) -> ModelVersion:
    found = store.version(name, version)
    if found is None:
        raise _unknown(f"{name}@{version}")
    return found


def _unknown(what: str) -> ApiError:
    return ApiError(404, "unknown_model", f"no model {what!r}; GET /v1/models lists them")
