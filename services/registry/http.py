"""The registry's routes: model versions, lineage, comparison, and what people decide by hand; projects beside them."""

import contextlib
from collections.abc import Generator, Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.http.application import ApiError, Number, errors
from services.chassis.http.guard import needs
from services.chassis.http.projects import check_in_service
from services.chassis.storage.pages import decode, moment, page
from services.registry.domain.promotion import Promotion
from services.registry.domain.representation import InForce, compared, explained, lineage, shown, transition
from services.registry.domain.version import ModelVersion
from services.registry.judgement import EvaluationGoesOn, evaluate_again, rejudge_open
from services.registry.project_routes import After, Decision, Limit, add_projects, add_prompts
from services.registry.store import Store
from services.registry.transitions import NotACandidate, NothingBefore, promote, reject, rollback

Version = Annotated[int, Query(ge=0, le=2**31 - 1)]


HISTORY = 100
"""So many entries of a version's history its lineage shows, the newest."""


class Rollback(Decision):
    """Which version a person rolls back to; None: the one before the present one, 0: the base."""

    to: int | None = Field(default=None, ge=0, le=2**31 - 1)


def make_router(ctx: Context[Store]) -> APIRouter:
    """All routes."""
    routes = APIRouter(prefix="/v1")
    add_projects(routes, ctx)
    add_prompts(routes, ctx)
    _add_models(routes, ctx)
    _add_reasons(routes, ctx)
    _add_decisions(routes, ctx)
    return routes


def _add_models(routes: APIRouter, ctx: Context[Store]) -> None:
    @routes.get("/models")
    async def models(project: str | None = None, limit: Limit = 50, after: After = None) -> dict[str, Any]:
        """Model versions, newest first."""
        place = decode(after, moment, str)

        def read(store: Store) -> list[dict[str, Any]]:
            versions = store.versions(project, limit + 1, place)
            now = {name: in_force(store, name) for name in {v.name for v in versions}}
            return [shown(v, now[v.name]) for v in versions]

        return page(await ctx.read(read), limit, lambda item: [item["created_at"], item["run_id"]])

    @routes.get("/models/{name}/compare", responses=errors(404))
    @needs("read", project="name")
    async def compare(name: str, a: Version, b: Version) -> dict[str, Any]:
        """Two versions of a model, metric by metric."""

        def read(store: Store) -> dict[str, Any]:
            return compared(_version(store, name, a), _version(store, name, b), in_force(store, name))

        return await ctx.read(read)

    @routes.get("/models/{name}/history", responses=errors(404))
    @needs("read", project="name")
    async def history(name: str, limit: Limit = 50, after: After = None) -> dict[str, Any]:
        """Every transition of a model's versions, oldest first."""
        start = place[0] if (place := decode(after, int)) else 0
        rows = await ctx.read(lambda store: store.history(name, limit + 1, start))
        if not rows and not start:
            raise _unknown(name)
        numbered = [{"number": number, **transition(entry)} for number, entry in rows]
        return page(numbered, limit, lambda item: [item["number"]])

    @routes.get("/models/{name}/{version}", responses=errors(404))
    @needs("read", project="name")
    async def model(name: str, version: Number) -> dict[str, Any]:
        """One version."""
        return await ctx.read(lambda store: shown(_version(store, name, version), in_force(store, name)))


def _add_reasons(routes: APIRouter, ctx: Context[Store]) -> None:
    @routes.get("/models/{name}/{version}/lineage", responses=errors(404))
    @needs("read", project="name")
    async def lineage_of(name: str, version: Number) -> dict[str, Any]:
        """What a version was made of."""

        def read(store: Store) -> dict[str, Any]:
            found = _version(store, name, version)
            spec = store.projects.at(found.trained.project, found.trained.project_revision)
            weights = store.version(name, found.weights_version) or found
            return lineage(found, weights, in_force(store, name), spec, store.history_of(name, version, HISTORY))

        return await ctx.read(read)

    @routes.get("/models/{name}/{version}/decision", responses=errors(404))
    @needs("read", project="name")
    async def decision_of(name: str, version: Number) -> dict[str, Any]:
        """Why a version is in its stage: the gate's newest decision with every value that went into it."""

        def read(store: Store) -> dict[str, Any]:
            found = _version(store, name, version)
            spec = store.projects.at(found.trained.project, found.trained.project_revision)
            return explained(found, in_force(store, name), spec, store.spent(name))

        return await ctx.read(read)


def _add_decisions(routes: APIRouter, ctx: Context[Store]) -> None:
    @routes.post("/models/{name}/rollback", responses=errors(404, 409))
    @needs("approve", project="name")
    async def roll_back(name: str, body: Rollback) -> dict[str, Any]:
        """Put an earlier version back into production: the one before the present one, or the one named; 0 is the base."""
        action = body.action()

        def write(store: Store) -> Any:
            store.lock(name)
            before = store.champion(name)
            with _refusals():
                number, events = rollback(store, name, action, body.to)
            events = [*events, *rejudge_open(store, name, before, action)]
            return {**_shown(store, name, number), "changed": bool(events)}, events

        return await ctx.transact(write, at=action.at)

    @routes.post("/models/{name}/{version}/promote", responses=errors(404, 409))
    @needs("approve", project="name")
    async def promote_version(name: str, version: Number, body: Decision) -> dict[str, Any]:
        """Put a version of any stage into production."""
        action = body.action()

        def write(store: Store) -> Any:
            store.lock(name)
            before: Promotion | None = store.champion(name)
            events = [*promote(store, _version(store, name, version), "promote", action)]
            events += rejudge_open(store, name, before, action)
            return {**_shown(store, name, version), "changed": bool(events)}, events

        return await ctx.transact(write, at=action.at)

    @routes.post("/models/{name}/{version}/evaluate", status_code=202, responses=errors(404, 409))
    @needs("operate", project="name")
    async def evaluate_version(name: str, version: Number, body: Decision) -> dict[str, Any]:
        """Measure a candidate again, against the version that candidates are compared with now, and judge it by that."""
        action = body.action()

        def write(store: Store) -> tuple[dict[str, Any], Iterable[Event]]:
            store.lock(name)
            found = _version(store, name, version)
            check_in_service(store.projects, found.trained.project)
            with _refusals():
                events = tuple(evaluate_again(store, found, action))
            return _shown(store, name, version), events

        return await ctx.transact(write, at=action.at)

    @routes.post("/models/{name}/{version}/reject", responses=errors(404, 409))
    @needs("approve", project="name")
    async def reject_version(name: str, version: Number, body: Decision) -> dict[str, Any]:
        """Reject a candidate."""
        action = body.action()

        def write(store: Store) -> tuple[dict[str, Any], Iterable[Event]]:
            store.lock(name)
            with _refusals():
                events = tuple(reject(store, _version(store, name, version), action))
            return _shown(store, name, version), events

        return await ctx.transact(write, at=action.at)


REFUSALS: Mapping[type[Exception], str] = {
    NothingBefore: "nothing_to_roll_back_to",
    NotACandidate: "not_a_candidate",
    EvaluationGoesOn: "evaluation_goes_on",
}


@contextlib.contextmanager
def _refusals() -> Generator[None]:
    """What is not possible as things stand, as ApiError 409."""
    try:
        yield
    except tuple(REFUSALS) as error:
        raise ApiError(409, REFUSALS[type(error)], str(error)) from error


def _shown(store: Store, name: str, version: int) -> dict[str, Any]:
    """A version as the API gives it; of the base there is little to tell."""
    now = in_force(store, name)
    if version == 0:
        base = {"serves": now.answering == 0, "is_champion": now.champion == 0}
        return {"name": name, "version": 0, "project": name, "stage": "production", **base}
    return shown(_version(store, name, version), now)


def in_force(store: Store, name: str) -> InForce:
    """What answers for a model, and what its candidates are compared with."""
    champion = store.champion(name)
    return InForce(store.answering(name), champion.version if champion else 0)


def _version(store: Store, name: str, version: int) -> ModelVersion:
    found = store.version(name, version)
    if found is None:
        raise _unknown(f"{name}@{version}")
    return found


def _unknown(what: str) -> ApiError:
    return ApiError(404, "unknown_model", f"no model {what!r}; GET /v1/models lists them")
