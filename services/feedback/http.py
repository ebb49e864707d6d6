"""Where people and programs say what they think of an answer, and see what became of it."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from contracts.canonical import canonical, digest
from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.http import idempotency
from services.chassis.http.application import ApiError, errors
from services.chassis.http.guard import By, Caller, needs
from services.chassis.storage.pages import decode, moment, page
from services.feedback import handlers, review
from services.feedback.domain.signals import Feedback, Given, OfConversation
from services.feedback.examples_store import Kept
from services.feedback.store import Entry, SqlStore, Store


def make_router(ctx: Context[SqlStore]) -> APIRouter:
    """The routes under /v1/feedback and /v1/review."""
    router = APIRouter()
    _add_feedback(router, ctx)
    review.add_routes(router, ctx)
    return router


def _add_feedback(router: APIRouter, ctx: Context[SqlStore]) -> None:
    @router.post("/v1/feedback", tags=["feedback"], status_code=202, responses=errors(409))
    @needs("feedback", by_handler=True)
    async def give(said: Given, by: By, key: idempotency.Key = None) -> dict[str, Any]:
        """Take feedback on an answer; it waits where the answer's own record has not arrived yet.

        On a conversation it is about its last answer, which must have arrived.
        """
        now = datetime.now(UTC)

        def write(store: SqlStore) -> Any:
            feedback = said if isinstance(said, Feedback) else on_last(store, said, by)
            check(store, feedback.request_id, by)
            return given_once(store, feedback, by, key, now) if key else handlers.give(feedback, now, store)

        return taken(await ctx.transact(write))

    @router.get("/v1/feedback/{signal_id}", tags=["feedback"], responses=errors(404))
    @needs("read", by_handler=True)
    async def show(signal_id: str, by: By) -> dict[str, Any]:
        """What became of a signal, and of the training examples that it made."""

        def read(store: SqlStore) -> tuple[Entry | None, list[Kept]]:
            entry = store.entry(signal_id)
            made = [] if entry is None else store.examples.of_request(entry.signal.request_id)
            return entry, [kept for kept in made if kept.example.signal_id == signal_id]

        entry, made = await ctx.read(read)
        if entry is None:
            raise ApiError(404, "unknown_signal", f"there is no signal {signal_id!r}")
        by.check(entry.project)
        return document(entry) | {"examples": [brief(kept) for kept in made]}

    @router.get("/v1/feedback", tags=["feedback"])
    async def newest(
        request_id: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50, after: str | None = None
    ) -> dict[str, Any]:
        """Signals, newest first, of all requests or of one."""
        place = decode(after, moment, str)
        rows = await ctx.read(lambda store: store.newest(request_id, place, limit + 1))
        shown = page(rows, limit, lambda entry: [entry.received_at.isoformat(), entry.signal.signal_id])
        return shown | {"items": [document(entry) for entry in shown["items"]]}


def given_once(
    store: SqlStore, feedback: Feedback, by: Caller, key: str, now: datetime
) -> tuple[list[Entry], list[Event]]:
    """As handlers.give, but the same feedback under the same Idempotency-Key is given once, whatever was said meanwhile.

    Raises:
        ApiError: 422 where the key came with other feedback.
    """
    body = digest(canonical(feedback.model_dump(mode="json")))
    same = idempotency.KeyedRequest(f"feedback/{by.name}", key, body)
    known = idempotency.recall(store.session, same, now)
    if known is not None:
        entries = [entry for id in json.loads(known) if (entry := store.entry(id)) is not None]
        return entries, []
    entries, events = handlers.give(feedback, now, store)
    idempotency.remember(store.session, same, json.dumps([entry.signal.signal_id for entry in entries]), now)
    return entries, events


def on_last(store: Store, said: OfConversation, by: Caller) -> Feedback:
    """What was said of a conversation as feedback on its last answer.

    Raises:
        ApiError: 403 where the project is not the caller's, 409 where no answer of the conversation has arrived.
    """
    by.check(said.project)
    request_id = store.last_of(said.project, said.conversation)
    if request_id is None:
        message = (
            f"no answer of the conversation {said.conversation!r} in {said.project!r} has arrived; give requests the metadata "
            f"{{{handlers.CONVERSATION!r}: ...}}, and send this again in a moment"
        )
        raise ApiError(409, "conversation_not_known_yet", message, headers={"retry-after": "2"})
    return said.on(request_id)


def check(store: Store, request_id: str, by: Caller) -> None:
    """Whether feedback on a request is the caller's to give. Only the request's record says whose project it was.

    Raises:
        ApiError: 403, or 409 where the key is limited to projects and the record has not arrived yet.
    """
    if by.projects is None:
        return
    request = store.request(request_id)
    if request is None:
        message = (
            f"nothing is known of {request_id!r} yet, so not whether it is this API key's; send it again in a moment"
        )
        raise ApiError(409, "request_not_known_yet", message, headers={"retry-after": "2"})
    by.check(request.project)


def taken(entries: list[Entry]) -> dict[str, Any]:
    """The answer to feedback: its first signal's id and state, and all of them."""
    states = [{"signal_id": e.signal.signal_id, "kind": e.signal.kind, "status": e.status} for e in entries]
    return {"signal_id": states[0]["signal_id"], "status": states[0]["status"], "signals": states}


def document(entry: Entry) -> dict[str, Any]:
    """A signal as JSON: what was said, and what became of it; what was not said is left out."""
    said = {k: v for k, v in asdict(entry.signal).items() if v is not None}
    state = {"status": entry.status, "project": entry.project, "record_id": entry.record_id}
    why = {"reason": entry.reason, "detail": entry.detail}
    return said | state | why | {"received_at": entry.received_at.isoformat()}


def brief(kept: Kept) -> dict[str, Any]:
    """What became of an example, without its texts."""
    example = kept.example
    said = {"example_id": example.example_id, "source": example.source, "status": kept.status}
    return said | {"reason": kept.reason, "detail": kept.detail, "by": kept.by, "note": kept.note}
