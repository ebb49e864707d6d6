"""The evaluator's routes: evaluations as pages and one by one. Knows no model and no SQL."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.chassis.context import Context
from services.chassis.http.application import ApiError, errors
from services.chassis.http.guard import By, needs
from services.chassis.jobs.queue import Job
from services.chassis.storage.pages import decode, moment, page
from services.evaluator.domain.evaluation import Evaluation
from services.evaluator.store import Store

Limit = Annotated[int, Query(ge=1, le=200)]


def make_router(ctx: Context[Store]) -> APIRouter:
    """`GET /v1/evaluations` and `GET /v1/evaluations/{evaluation_id}`."""
    routes = APIRouter()

    @routes.get("/v1/evaluations")
    async def evaluations(project: str | None = None, limit: Limit = 50, after: str | None = None) -> dict[str, Any]:
        """Evaluations, newest first."""
        place = decode(after, moment, str)

        def read(store: Store) -> list[dict[str, Any]]:
            return [view(e, store.jobs.get(e.evaluation_id)) for e in store.evaluations(project, limit + 1, place)]

        return page(await ctx.read(read), limit, lambda item: [item["created_at"], item["evaluation_id"]])

    @routes.get("/v1/evaluations/{evaluation_id}", responses=errors(404))
    @needs("read", by_handler=True)
    async def evaluation(evaluation_id: str, by: By) -> dict[str, Any]:
        """One evaluation."""

        def read(store: Store) -> dict[str, Any] | None:
            found = store.evaluation(evaluation_id)
            return found and view(found, store.jobs.get(evaluation_id))

        shown = await ctx.read(read)
        if shown is None:
            message = f"no evaluation {evaluation_id!r}; GET /v1/evaluations lists them"
            raise ApiError(404, "unknown_evaluation", message)
        by.check(shown["project"])
        return shown

    return routes


def view(evaluation: Evaluation, job: Job | None) -> dict[str, Any]:
    """An evaluation as JSON; while its job runs, with the progress {stage, done, total}."""
    outcome = evaluation.outcome.model_dump(mode="json", exclude={"predictions"}) if evaluation.outcome else {}
    running = evaluation.status == "queued" and job is not None and job.status == "running"
    return {
        "evaluation_id": evaluation.evaluation_id,
        "run_id": evaluation.run_id,
        "project": evaluation.project,
        "project_revision": evaluation.project_revision,
        "status": "running" if running else evaluation.status,
        "progress": job.progress if job else None,
        "dataset": {"number": evaluation.dataset.number, "version": evaluation.dataset.version},
        "champion": evaluation.champion.model_dump(),
        **{name: outcome.get(name) for name in OUTCOME},
        "cause": evaluation.cause,
        "detail": evaluation.detail,
        "created_at": evaluation.created_at.isoformat(),
        "finished_at": job.finished_at.isoformat() if job and job.finished_at else None,
    }


OUTCOME = (
    "metrics",
    "champion_metrics",
    "base_metrics",
    "differences",
    "results",
    "examples",
    "skipped",
    "computed",
    "seconds",
)
