"""Puts what became of a request into the spool, once, and counts it. Knows neither Triton nor HTTP."""

import asyncio
import time
from datetime import UTC, datetime

from contracts.events.serving import InferenceCompletedV1
from services.chassis.observability import traces
from services.serving.completion import Completion
from services.serving.domain.errors import Unavailable
from services.serving.domain.generation_span import generation
from services.serving.domain.record import Outcome, inference
from services.serving.domain.spending import Paid, day_of
from services.serving.runtime import Runtime


async def record(runtime: Runtime, completion: Completion, outcome: Outcome, error: str | None = None) -> None:
    """Puts the request and its answer into the spool; it is on disk when this returns.

    A completion is recorded once: where a client leaves while its record is written, that record stands.

    Raises:
        Unavailable: it cannot be written.
    """
    if completion.record is None or (
        completion.record.done() and not completion.record.cancelled() and completion.record.exception()
    ):
        seconds = time.perf_counter() - completion.started
        event = inference(
            completion.id, completion.asked, completion.head.target, completion.progress, outcome, error, seconds
        )
        _pay(runtime, event)
        completion.record = asyncio.ensure_future(_write(runtime, event))
        _count(runtime, completion, outcome, seconds)
        name, attributes = generation(completion.asked, completion.head.id, completion.head.target, completion.progress)
        code = error.partition(":")[0] if error else None
        traces.note(name, "CLIENT", seconds, attributes, code or (outcome if outcome != "ok" else None))
    await asyncio.shield(completion.record)


def _pay(runtime: Runtime, event: InferenceCompletedV1) -> None:
    """Counts what a teacher's answer cost against the day's budget, before its record has come back from Kafka."""
    if event.teacher is None or not event.teacher.cost:
        return
    paid = Paid(event.request_id, event.project, day_of(datetime.now(UTC)), event.teacher.cost)
    runtime.teachers.spending.pay(paid)
    if (metrics := runtime.metrics) is not None:
        currency = event.teacher.currency or ""
        metrics.teacher_cost.labels(metrics.project(event.project), currency).inc(paid.cost)


async def _write(runtime: Runtime, event: InferenceCompletedV1) -> None:
    try:
        if runtime.record is None:
            raise OSError("the spool is closed")
        await runtime.record(event)
    except Exception as fault:  # SQLite's, the disk's and the encoder's errors alike: no answer goes unrecorded
        runtime.record_fault = f"the spool cannot be written: {fault}"
        raise Unavailable(f"The answer could not be recorded: {fault}", "record_unavailable", 5) from fault


def _count(runtime: Runtime, completion: Completion, outcome: Outcome, seconds: float) -> None:
    if runtime.metrics is None:
        return
    usage = completion.progress.usage
    runtime.metrics.requests.labels(completion.asked.endpoint, outcome).inc()
    runtime.metrics.seconds.observe(seconds)
    runtime.metrics.tokens.labels("input").inc(usage.prompt_tokens)
    runtime.metrics.tokens.labels("output").inc(usage.completion_tokens)
    metrics = runtime.metrics
    who = metrics.project(completion.head.target.model.name), metrics.key(completion.key)
    metrics.of_project.labels(*who, outcome).inc()
    metrics.project_tokens.labels(*who, "input").inc(usage.prompt_tokens)
    metrics.project_tokens.labels(*who, "output").inc(usage.completion_tokens)
    metrics.project_seconds.labels(*who).inc(seconds)
