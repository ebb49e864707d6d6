"""Ingestion's HTTP entrance: an upload's items are checked here and go to the topic of submitted records.

What is accepted is decided where every submission is: by the handlers, from the topic. So HTTP and Kafka are one path.
"""

import asyncio
import hashlib
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request

from services.chassis.context import Context
from services.chassis.http import idempotency
from services.chassis.http.application import ApiError, errors
from services.chassis.http.guard import needs
from services.chassis.http.limits import BodyLimit
from services.chassis.messaging.outbox import event_id
from services.chassis.rows.reading import Kind
from services.ingestion.cloud_events import add_events_route, checked
from services.ingestion.domain.policy import LETS_ALL_IN, Policy
from services.ingestion.record_reader import Batch, Refusal
from services.ingestion.settings import IngestionSettings
from services.ingestion.store import SqlStore
from services.ingestion.traces_route import add_otlp_routes
from services.ingestion.unpacking import batches_of
from services.ingestion.upload import TYPES, Upload, received

KEPT = 10_000
"""Records and refusals that the answer to an upload lists; a file of 5 GB may hold millions of them."""
_ITEMS = {"schema": {"type": "array", "items": {"type": "object"}}}
_FILE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"file": _FILE["schema"]}, "required": ["file"]}}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": _ITEMS,
            **{name: _FILE for name in TYPES if name != "application/json"},
            "multipart/form-data": _FORM,
        },
    }
}


def make_router(ctx: Context[SqlStore]) -> APIRouter:
    """The routes of a running service."""
    router = APIRouter()
    add_events_route(router, ctx, BodyLimit(_settings(ctx).events_bytes, "NORIA_INGESTION_EVENTS_BYTES"))
    add_otlp_routes(router, ctx, _settings(ctx))

    @router.post("/v1/projects/{project}/records", status_code=202, responses=errors(404, 415, 503), openapi_extra=BODY)
    @needs("submit", body=BodyLimit(_settings(ctx).upload_bytes, "NORIA_INGESTION_UPLOAD_BYTES"))
    async def submit(
        project: str, request: Request, format: Kind | None = None, key: idempotency.Key = None
    ) -> dict[str, Any]:
        """Submit records as JSON, JSON lines, CSV, TSV, Parquet or Arrow, packed or not, as the body or the `file` of a form.

        `format` says what it is where neither the content type nor the file's name does. Of the records that were
        taken and of those that were refused the first 10,000 are listed.
        """
        policy = await _known(ctx, project)
        async with received(request, _settings(ctx), format) as upload:
            answer = await _submit(ctx, project, policy, upload, key)
        return checked(answer)

    @router.get("/v1/projects/{project}/records/counts", responses=errors(404))
    async def counts(project: str) -> dict[str, Any]:
        await _known(ctx, project)
        return await ctx.read(lambda store: store.counts(project))

    return router


async def _known(ctx: Context[SqlStore], project: str) -> Policy:
    """What the project's `ingest` says.

    Raises:
        ApiError: 404 where nobody defined it.
    """

    def known(store: SqlStore) -> tuple[bool, Policy]:
        return store.knows(project), store.policy(project)

    found, policy = await ctx.read(known) if project.isprintable() else (False, LETS_ALL_IN)
    if not found:
        raise ApiError(404, "unknown_project", f"no project {project!r} is defined; define it with `noria apply`")
    return policy


def _settings(ctx: Context[SqlStore]) -> IngestionSettings:
    assert isinstance(ctx.settings, IngestionSettings)  # noqa: S101 - app.py wires it so
    return ctx.settings


async def _cause(ctx: Context[SqlStore], project: str, upload: Upload, key: str | None) -> str:
    """What the ids of the upload's events derive from.

    The same file under the same Idempotency-Key repeats the ids. Without a key the ids are new, and it is the content that
    makes no new revision: a file sent again after another one changed its records must still win.

    Raises:
        ApiError: 422 where the key came with another file.
    """
    cause = f"upload/{uuid.uuid4().hex}"
    if not key:
        return cause
    same = idempotency.KeyedRequest(f"upload/{project}", key, await asyncio.to_thread(_digest, upload))
    now = datetime.now(UTC)

    def bind(store: SqlStore) -> tuple[str, tuple[()]]:
        known = idempotency.recall(store.session, same, now)
        if known is None:
            idempotency.remember(store.session, same, cause, now)
        return known or cause, ()

    return await ctx.transact(bind)


def _digest(upload: Upload) -> str:
    with upload.path.open("rb") as file:
        return f"{upload.kind}:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@dataclass(slots=True)
class Outcome:
    """What became of an upload's items: counts of all, lists of the first KEPT."""

    accepted: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    refused: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    taken: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])

    def add(self, accepted: list[dict[str, Any]], refused: list[Refusal]) -> None:
        """A batch's."""
        self.taken += len(accepted)
        self.reasons.update(refusal.reason for refusal in refused)
        self.accepted += accepted[: KEPT - len(self.accepted)]
        self.refused += map(asdict, refused[: KEPT - len(self.refused)])

    def answer(self) -> dict[str, Any]:
        """As JSON."""
        counts = {"accepted_count": self.taken, "refused_count": self.reasons.total()}
        return {"accepted": self.accepted, "refused": self.refused, **counts, "refused_by_reason": self.reasons}


async def _submit(
    ctx: Context[SqlStore], project: str, policy: Policy, upload: Upload, key: str | None
) -> dict[str, Any]:
    outcome = Outcome()
    cause: str | None = None
    found = await batches_of(upload, project, policy, _settings(ctx))
    while (batch := await asyncio.to_thread(next, found, None)) is not None:
        accepted: list[dict[str, Any]] = []
        if batch.taken:  # a file of which nothing is taken leaves its key free
            cause = cause or await _cause(ctx, project, upload, key)
            accepted = await _send(ctx, batch, f"{cause}/{outcome.taken}")
        outcome.add(accepted, batch.refused)
    return outcome.answer()


async def _send(ctx: Context[SqlStore], batch: Batch, cause: str) -> list[dict[str, Any]]:
    events = [event for _, event in batch.taken]
    await ctx.transact(lambda _: (None, events), cause)
    ids = (event_id(ctx.settings.group, ctx.settings.source, cause, index) for index in range(len(events)))
    return [
        {"line": line, "record_id": event.record_id, "id": id}
        for (line, event), id in zip(batch.taken, ids, strict=True)
    ]
