"""`POST /v1/traces` and `/v1/logs`: calls of language models, as an application's instrumentation tells of them, as records.

Which project: the one in the path, else the header `noria-project`, else each resource's attribute `noria.project`. Which records
are accepted is decided where every submission is: by the handlers, from the topic.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError

from contracts.envelope import Malformed
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid
from services.chassis.context import Context
from services.chassis.http.application import MEANINGS, Problem
from services.chassis.http.guard import By, Caller, needs
from services.chassis.http.limits import BodyLimit
from services.chassis.storage.database import is_database_fault
from services.ingestion import otlp
from services.ingestion.domain.policy import Policy, let_in
from services.ingestion.domain.traces import names, parts, records
from services.ingestion.domain.traces.spans import Span
from services.ingestion.joining import Brought, join
from services.ingestion.otlp import JSON, PROTOBUF, Signal
from services.ingestion.outcomes import Outcome, count
from services.ingestion.settings import IngestionSettings
from services.ingestion.store import SqlStore
from services.ingestion.upload import media_type

PROJECT_HEADER = "noria-project"
BATCH = 500
UNDEFINED = "no project {!r} is defined; define it with `noria apply`"
STATUS = {"unknown_project": 404, "forbidden": 403, "too_large": 413, "unsupported_type": 415}
"""Of what refuses a whole request; 400 for all else."""


class GoogleStatus(BaseModel):
    """An error as OTLP has it: google.rpc.Status."""

    code: int
    message: str = ""


_BINARY: dict[str, Any] = {"content": {PROTOBUF: {"schema": {"type": "string", "format": "binary"}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Taken; in partial_success what was not", **_BINARY},
    **{
        status: {"model": GoogleStatus | Problem, "description": MEANINGS[status], **_BINARY}
        for status in (400, 403, 404, 413, 415, 503)
    },
}
Taker = Callable[[Signal, Request, Caller, str | None], Awaitable[Response]]
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {PROTOBUF: {"schema": {"type": "string", "format": "binary"}}, JSON: {"schema": {"type": "object"}}},
    }
}


def judge(found: Iterable[Span], named: str | None, known: Mapping[str, Policy], by: Caller) -> Outcome:
    """What becomes of spans, `named` being the project of all of them where one is, and `known` the projects that are defined."""
    outcome = Outcome()
    for span in found:
        if not records.is_call(span):
            outcome.ignored += span.items
            continue
        try:
            project = named or project_of(span)
            _check(project, known, by)
            for event in records.submissions(span, project):
                outcome.events.setdefault(project, []).append(let_in(event, known[project]))
        except RecordInvalid as error:
            outcome.refuse(span.trace_id, span.span_id, span.items, error)
    return outcome


def brought(
    found: Iterable[Span], named: str | None, known: Mapping[str, Policy], by: Caller, outcome: Outcome
) -> list[Brought]:
    """Parts of calls as they may be kept; those of no project that the caller may feed are refused in `outcome`."""
    made: list[Brought] = []
    for span in found:
        try:
            project = named or project_of(span)
            _check(project, known, by)
            part = parts.let_in(parts.part_of(span), project, known[project])
            made.append(Brought(project, span.trace_id, span.span_id, part))
        except RecordInvalid as error:
            outcome.refuse(span.trace_id, span.span_id, span.items, error)
    return made


def project_of(span: Span) -> str:
    """The project that a span's resource names, or ''."""
    found = span.resource.get(names.PROJECT)
    return found if isinstance(found, str) else ""


def _check(project: str, known: Mapping[str, Policy], by: Caller) -> None:
    if not project:
        ways = f"the path /v1/projects/PROJECT, the header {PROJECT_HEADER} or the resource attribute {names.PROJECT}"
        raise RecordInvalid("no_project", f"nothing says which project the span is for; give {ways}")
    if not by.sees(project):
        raise RecordInvalid("forbidden", f"this API key is not for project {project[:63]!r}")
    if project not in known:
        raise RecordInvalid("unknown_project", UNDEFINED.format(project[:63]))


def _policies(store: SqlStore, found: Iterable[Span], named: str | None) -> dict[str, Policy]:
    wanted = {named} if named else {project_of(span) for span in found}
    return {project: store.policy(project) for project in wanted if project.isprintable() and store.knows(project)}


def add_otlp_routes(router: APIRouter, ctx: Context[SqlStore], settings: IngestionSettings) -> None:
    """Adds the routes to a router. An exporter puts /v1/traces behind its endpoint, whatever path that has."""

    async def take(signal: Signal, request: Request, by: Caller, project: str | None) -> Response:
        media = media_type(request.headers.get("content-type"))
        try:
            found, named = await _read(signal, request, media, settings.otlp_bytes), _named(request, by, project)
            known = await ctx.read(lambda store: _policies(store, found, named))
            if named is not None and named not in known:
                raise RecordInvalid("unknown_project", UNDEFINED.format(named[:63]))
            outcome, came = await asyncio.to_thread(_judged, signal, found, named, known, by)
            if came:
                outcome.add(await ctx.transact(_joining(came, known, settings.otlp_waiting_bytes)))
            await _send(ctx, outcome)
        except (Malformed, RecordInvalid) as error:
            code = error.reason if isinstance(error, Malformed) else error.code
            return otlp.refusal(media, STATUS.get(code, 400), f"{code}: {error}")
        except DBAPIError as error:
            if not is_database_fault(error):
                raise
            return otlp.refusal(media, 503, "the database is away, locked or full; send it again", retry_after=2)
        count(ctx, outcome.counts)
        count(ctx, outcome.lost)
        ctx.log.info("otlp", signal=signal, **outcome.counts)
        return otlp.taken(signal, media, outcome.refused.total(), outcome.message)

    _add(router, take, BodyLimit(settings.otlp_bytes, "NORIA_INGESTION_OTLP_BYTES"))


def _judged(
    signal: Signal, found: Sequence[Span], named: str | None, known: Mapping[str, Policy], by: Caller
) -> tuple[Outcome, list[Brought]]:
    whole, partial = list[Span](), list[Span]()
    for span in found:
        (partial if signal == "logs" and parts.is_part(span) else whole).append(span)
    outcome = judge(whole, named, known, by)
    return outcome, brought(partial, named, known, by, outcome)


async def _read(signal: Signal, request: Request, media: str, most: int) -> list[Span]:
    if media not in (PROTOBUF, JSON):
        raise Malformed("unsupported_type", f"content type {media[:80]!r} is not taken; give {PROTOBUF} or {JSON}")
    encoding = request.headers.get("content-encoding", "").strip().lower()
    plain = otlp.unpacked(await request.body(), encoding, most)
    return await asyncio.to_thread(otlp.read, signal, plain, media)


def _named(request: Request, by: Caller, project: str | None) -> str | None:
    """The project of the whole request, if it names one that the caller may submit to."""
    named = project or request.headers.get(PROJECT_HEADER)
    if named is not None and not by.sees(named):
        raise RecordInvalid("forbidden", f"this API key is not for project {named[:63]!r}")
    return named


async def _send(ctx: Context[SqlStore], outcome: Outcome) -> None:
    """A batch that is sent again repeats the ids of its events; records that come in another batch make no new revision."""
    for events in outcome.events.values():
        for start in range(0, len(events), BATCH):
            batch = events[start : start + BATCH]
            cause = sha256(b"\n".join(event.to_bytes() for event in batch)).hexdigest()
            await ctx.transact(_sending(batch), f"otlp/{cause}")


def _sending(events: Sequence[RecordSubmittedV1]) -> Callable[[SqlStore], tuple[None, Sequence[RecordSubmittedV1]]]:
    return lambda _: (None, events)


def _joining(
    came: Sequence[Brought], known: Mapping[str, Policy], most: int
) -> Callable[[SqlStore], tuple[Outcome, Sequence[RecordSubmittedV1]]]:
    return lambda store: join(store, came, known, most, datetime.now(UTC))


def _add(router: APIRouter, take: Taker, most: BodyLimit) -> None:
    @router.post("/v1/traces", responses=_ANSWERS, openapi_extra=_BODY)
    @needs("submit", by_handler=True, body=most)
    async def traces(request: Request, by: By) -> Response:
        """Submit spans of calls of language models by OTLP/HTTP; the project by the header noria-project or noria.project."""
        return await take("traces", request, by, None)

    @router.post("/v1/logs", responses=_ANSWERS, openapi_extra=_BODY)
    @needs("submit", by_handler=True, body=most)
    async def logs(request: Request, by: By) -> Response:
        """Submit log events of calls of language models by OTLP/HTTP."""
        return await take("logs", request, by, None)

    @router.post("/v1/projects/{project}/v1/traces", responses=_ANSWERS, openapi_extra=_BODY)
    @needs("submit", body=most)
    async def traces_of(project: str, request: Request, by: By) -> Response:
        """Submit spans to a project: OTEL_EXPORTER_OTLP_ENDPOINT is the address up to the project's name."""
        return await take("traces", request, by, project)

    @router.post("/v1/projects/{project}/v1/logs", responses=_ANSWERS, openapi_extra=_BODY)
    @needs("submit", body=most)
    async def logs_of(project: str, request: Request, by: By) -> Response:
        """Submit log events to a project."""
        return await take("logs", request, by, project)
