"""A job's tries as the services' HTTP interfaces show them."""

from typing import Any

from services.chassis.jobs.job import Job


def status_of(job: Job | None, otherwise: str) -> str:
    """`queued` or `running` where the job is not over, also one that somebody wants once more; else `otherwise`."""
    return job.status if job is not None and job.status in ("queued", "running") else otherwise


def tries_of(job: Job | None) -> dict[str, Any]:
    """`attempt` counts from 1; `retry_at` is when a job that waits is tried again, `last_error` why it is."""
    over = job is None or job.status not in ("queued", "running")
    error = None if job is None or over or job.code is None else {"code": job.code, "detail": job.detail}
    return {
        "attempt": job.attempts if job else None,
        "retry_at": job.retry_at.isoformat() if job and job.retry_at else None,
        "last_error": error,
    }
