"""The evaluator's routes: evaluations as pages and one by one, measuring once more, and two versions side by side."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.chassis.context import Context
from services.chassis.http.application import ApiError, errors
from services.chassis.http.guard import By, Caller, needs
from services.chassis.http.projects import check_in_service
from services.chassis.jobs.job import Job, status_of, tries_of
from services.chassis.storage.pages import decode, moment, page
from services.evaluator.comparison_routes import add_comparisons
from services.evaluator.domain.evaluation import Evaluation
from services.evaluator.store import Store

Limit = Annotated[int, Query(ge=1, le=200)]


def make_router(ctx: Context[Store]) -> APIRouter:
    """`GET /v1/evaluations`, `GET /v1/evaluations/{evaluation_id}` `POST /v1/evaluations/{evaluation_id}/retry`, comparisons."""
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
        return await ctx.read(lambda store: shown(store, evaluation_id, by))

    @routes.post("/v1/evaluations/{evaluation_id}/retry", status_code=202, responses=errors(404, 409))
    @needs("operate", by_handler=True)
    async def retry(evaluation_id: str, by: By) -> dict[str, Any]:
        """Measure once more, after a failure or to see the figures again; end the pause before a next try."""
        return await ctx.transact(lambda store: (retried(store, evaluation_id, by), ()))

    add_comparisons(routes, ctx)
    return routes


def shown(store: Store, evaluation_id: str, by: Caller) -> dict[str, Any]:
    """One evaluation as JSON.

    Raises:
        ApiError: 404 `unknown_evaluation`, 403 where its project is not the caller's.
    """
    found = store.evaluation(evaluation_id)
    if found is None:
        message = f"no evaluation {evaluation_id!r}; GET /v1/evaluations lists them"
        raise ApiError(404, "unknown_evaluation", message)
    by.check(found.project)
    return view(found, store.jobs.get(evaluation_id))


def retried(store: Store, evaluation_id: str, by: Caller) -> dict[str, Any]:
    """Queue an evaluation anew that is over; end the pause of one that waits for its next try.

    Raises:
        ApiError: as `shown`, and 409 `project_retired`, `evaluation_goes_on` or `job_is_gone`.
    """
    now = shown(store, evaluation_id, by)
    check_in_service(store.projects, now["project"])
    if not (store.jobs.retry_now(evaluation_id) or store.jobs.restart(evaluation_id)):
        if store.jobs.get(evaluation_id) is not None:
            raise ApiError(409, "evaluation_goes_on", f"evaluation {evaluation_id!r} is {now['status']} already")
        raise ApiError(409, "job_is_gone", f"the job of evaluation {evaluation_id!r} is kept no longer")
    return shown(store, evaluation_id, by)


def view(evaluation: Evaluation, job: Job | None) -> dict[str, Any]:
    """An evaluation as JSON; while its job runs, with the progress {stage, done, total}."""
    outcome = evaluation.outcome.model_dump(mode="json", exclude={"predictions"}) if evaluation.outcome else {}
    return {
        "evaluation_id": evaluation.evaluation_id,
        "run_id": evaluation.run_id,
        "project": evaluation.project,
        "project_revision": evaluation.project_revision,
        "status": status_of(job, evaluation.status),
        **tries_of(job),
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
    "tests",
    "slices",
    "regressions",
    "judge",
    "results",
    "examples",
    "skipped",
    "computed",
    "seconds",
)
