"""`POST /v1/events`: submitted records as CloudEvents over HTTP, in binary, structured or batched mode.

Source: CloudEvents 1.0.2, "HTTP Protocol Binding". An event's (source, id) is its identity: sent again it is taken once, in
whatever mode and batch. Which records are accepted is decided where every submission is: by the handlers, from the topic.
"""

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter, Request

from contracts.envelope import Header, Malformed, Received, decode
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid
from contracts.structured import BATCH, STRUCTURED, envelopes, is_batch, media_type
from services.chassis.context import Context
from services.chassis.http.application import ApiError, errors
from services.chassis.http.guard import By, Caller, needs
from services.chassis.http.limits import BodyLimit
from services.chassis.messaging.outbox import event_id
from services.ingestion.domain.policy import Policy, let_in
from services.ingestion.store import SqlStore

_EVENT = {"schema": {"type": "object"}}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": _EVENT,
            STRUCTURED: _EVENT,
            BATCH: {"schema": {"type": "array", "items": {"type": "object"}}},
        },
    }
}
Read = Received[RecordSubmittedV1] | Malformed


def add_events_route(router: APIRouter, ctx: Context[SqlStore], most: BodyLimit) -> None:
    """Adds the route to a router; `most` is taken of a body."""

    @router.post("/v1/events", status_code=202, responses=errors(422), openapi_extra=BODY)
    @needs("submit", by_handler=True, body=most)
    async def events(request: Request, by: By) -> dict[str, Any]:
        """Submit records as CloudEvents: one in binary or structured mode, or a batch."""
        headers = kafka_headers(request.headers)
        found = read_events(headers, await request.body())
        if len(found) == 1 and isinstance(found[0], Malformed):
            raise ApiError(400, found[0].reason, str(found[0]))
        if len(found) == 1 and isinstance(found[0], Received):
            by.check(found[0].data.project)
        accepted: list[dict[str, Any]] = []
        refused: list[dict[str, Any]] = []
        for place, event in enumerate(found, 1):
            try:
                accepted.append({"line": place, **await _take(ctx, event, by)})
            except (Malformed, RecordInvalid) as error:
                code = error.reason if isinstance(error, Malformed) else error.code
                refused.append({"line": place, "reason": code, "detail": str(error)})
        return checked({"accepted": accepted, "refused": refused})


def kafka_headers(headers: Mapping[str, str]) -> list[Header]:
    """HTTP's headers as Kafka's: ce-id is ce_id there, and percent-encoding (of HTTP's binding, 3.1.3.2) is none."""
    named: list[Header] = []
    for name, value in headers.items():
        if name.startswith("ce-"):
            named.append(("ce_" + name[3:], unquote(value, errors="replace").encode("utf-8", "replace")))
        elif name in ("content-type", "traceparent"):
            named.append((name, value.encode("latin-1", "replace")))
    return named


def read_events(headers: list[Header], body: bytes) -> list[Read]:
    """The events of a body, or what is wrong with each; a body that is none is one wrong event."""
    named = dict(headers)
    media = media_type((named.get("content-type") or b"application/json").decode("latin-1"))
    try:
        if "ce_specversion" not in named and is_batch(media, body):
            around: list[Header] = [("content-type", STRUCTURED.encode())]
            return [_read([*around, *_trace(headers)], each) for each in envelopes(body)]
    except Malformed as error:
        return [error]
    return [_read(headers, body)]


def _trace(headers: list[Header]) -> list[Header]:
    return [header for header in headers if header[0] == "traceparent"]


def _read(headers: list[Header], body: bytes) -> Read:
    try:
        return decode(RecordSubmittedV1, headers, body)
    except Malformed as error:
        return error


async def _take(ctx: Context[SqlStore], event: Read, by: Caller) -> dict[str, str]:
    """Sends an event on under an id that derives from its identity.

    Raises:
        Malformed, RecordInvalid: it is no event, its project is unknown or not the caller's, or its record is none.
    """
    if isinstance(event, Malformed):
        raise event
    submitted = event.data
    if not by.sees(submitted.project):
        raise RecordInvalid("forbidden", f"this API key is not for project {submitted.project!r}")

    def known(store: SqlStore) -> tuple[bool, Policy]:
        return store.knows(submitted.project), store.policy(submitted.project)

    found, policy = await ctx.read(known)
    if not found:
        detail = f"no project {submitted.project!r} is defined; define it with `noria apply`"
        raise RecordInvalid("unknown_project", detail)
    submitted = await asyncio.to_thread(let_in, submitted, policy)
    cause = f"cloudevent/{len(event.meta.source)}/{event.meta.source}/{event.meta.id}"
    await ctx.transact(lambda _: (None, [submitted]), cause)
    return {"record_id": submitted.record_id, "id": event_id(ctx.settings.group, ctx.settings.source, cause, 0)}


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, unless nothing was taken.

    Raises:
        ApiError: 422 `no_records` or `all_refused`, the latter with all refusals.
    """
    if answer["accepted"]:
        return answer
    if not answer["refused"]:
        raise ApiError(422, "no_records", "the request holds no record")
    first = answer["refused"][0]
    message = f"no record was taken; line {first['line']}: {first['reason']}: {first['detail']}"
    raise ApiError(422, "all_refused", message, answer)
