"""The trainer's routes: runs as pages and one by one, their cancellation and their retry."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query

from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.http.application import ApiError, errors
from services.chassis.http.guard import By, Caller, needs
from services.chassis.http.projects import check_in_service
from services.chassis.jobs.failures import Failure
from services.chassis.jobs.job import Job, status_of, tries_of
from services.chassis.storage.pages import decode, moment, page
from services.trainer.domain.run_state import Run
from services.trainer.handlers import on_failed
from services.trainer.store import Store

Limit = Annotated[int, Query(ge=1, le=200)]


def make_router(ctx: Context[Store]) -> APIRouter:
    """`GET /v1/runs`, `GET /v1/runs/{run_id}`, `POST /v1/runs/{run_id}/cancel` and `.../retry`."""
    routes = APIRouter()

    @routes.get("/v1/runs")
    async def runs(project: str | None = None, limit: Limit = 50, after: str | None = None) -> dict[str, Any]:
        """Runs, newest first."""
        place = decode(after, moment, str)

        def read(store: Store) -> list[dict[str, Any]]:
            return [view(run, store.jobs.get(run.run_id)) for run in store.runs(project, limit + 1, place)]

        return page(await ctx.read(read), limit, lambda item: [item["created_at"], item["run_id"]])

    @routes.get("/v1/runs/{run_id}", responses=errors(404))
    @needs("read", by_handler=True)
    async def run(run_id: str, by: By) -> dict[str, Any]:
        """One run."""
        return await ctx.read(lambda store: shown(store, run_id, by))

    @routes.post("/v1/runs/{run_id}/cancel", status_code=202, responses=errors(404, 409))
    @needs("operate", by_handler=True)
    async def cancel(run_id: str, by: By) -> dict[str, Any]:
        """End a run that waits, ask for the end of one that runs; its failure event says `cancelled`."""
        return await ctx.transact(lambda store: cancelled(store, run_id, by))

    @routes.post("/v1/runs/{run_id}/retry", status_code=202, responses=errors(404, 409))
    @needs("operate", by_handler=True)
    async def retry(run_id: str, by: By) -> dict[str, Any]:
        """Run a failed or cancelled run once more from its checkpoint; end the pause of one that waits for its next try."""
        return await ctx.transact(lambda store: (retried(store, run_id, by), ()))

    return routes


def shown(store: Store, run_id: str, by: Caller) -> dict[str, Any]:
    """One run as JSON.

    Raises:
        ApiError: 404 `unknown_run`, 403 where its project is not the caller's.
    """
    found = store.run(run_id)
    if found is None:
        raise ApiError(404, "unknown_run", f"no run {run_id!r}; GET /v1/runs lists them")
    by.check(found.project)
    return view(found, store.jobs.get(run_id))


def cancelled(store: Store, run_id: str, by: Caller) -> tuple[dict[str, Any], Iterable[Event]]:
    """End a run that waits, and say so; ask for the end of one that runs, whose worker will.

    Raises:
        ApiError: as `shown`, and 409 `run_is_over`.
    """
    now = shown(store, run_id, by)
    failure = Failure("cancelled", "cancelled while it waited")
    if (ended := store.jobs.cancel_queued(run_id, failure)) is not None:
        events = list(on_failed(store, ended, failure))
        return shown(store, run_id, by), events
    if not store.jobs.cancel(run_id):
        raise ApiError(409, "run_is_over", f"run {run_id!r} is {now['status']}; only a waiting or running one ends")
    return now, ()


def retried(store: Store, run_id: str, by: Caller) -> dict[str, Any]:
    """Queue a run anew that failed, was cancelled or gave way to a newer one; end the pause of one that waits for its next try.

    Raises:
        ApiError: as `shown`, and 409 `run_is_done`, `project_retired`, `run_goes_on`, or `job_is_gone`.
    """
    now = shown(store, run_id, by)
    if now["status"] == "done":
        message = f"run {run_id!r} is done and its model stands; a new run comes of a new dataset or a changed project"
        raise ApiError(409, "run_is_done", message)
    check_in_service(store.projects, now["project"])
    if not (store.jobs.retry_now(run_id) or store.jobs.restart(run_id)):
        if now["status"] in ("queued", "running") and store.jobs.get(run_id) is not None:
            raise ApiError(409, "run_goes_on", f"run {run_id!r} is {now['status']} already")
        message = f"the job of run {run_id!r} is kept no longer; freeze a dataset to train again"
        raise ApiError(409, "job_is_gone", message)
    return shown(store, run_id, by)


def view(run: Run, job: Job | None) -> dict[str, Any]:
    """A run as JSON; `progress` is the newest that its job reported, `cause` and `detail` are of its last end."""
    status = run.status if run.status == "done" else status_of(job, run.status)
    over = status not in ("queued", "running")
    return {
        "run_id": run.run_id,
        "project": run.project,
        "project_revision": run.project_revision,
        "dataset": {"number": run.dataset.number, "version": run.dataset.version},
        "status": status,
        **tries_of(job),
        "progress": job.progress if job else None,
        "figures": run.figures,
        "left_out": run.left_out,
        "references": [reference.model_dump(mode="json") for reference in run.references],
        "cause": run.cause if over else None,
        "detail": run.detail if over else None,
        "successor": run.successor if over else None,
        "created_at": run.created_at.isoformat(),
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "finished_at": job.finished_at.isoformat() if job and job.finished_at else None,
    }
