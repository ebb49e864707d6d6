"""Where a reviewer looks at examples that the policy held, and lets them in, changes or rejects them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from contracts.chat import prompt_turns
from contracts.envelope import Event
from contracts.records import Preference, RecordInvalid
from services.chassis.context import Context
from services.chassis.http.application import ApiError, errors
from services.chassis.http.guard import By, Caller, needs
from services.chassis.storage.pages import decode, moment, page
from services.feedback.domain.signals import Text
from services.feedback.examples_store import Kept
from services.feedback.learning import NotHeld, accept, reject
from services.feedback.store import SqlStore

Person = Annotated[str, Field(max_length=200, description="Who decides; the key's name where not given")]


class Decision(BaseModel):
    """Who decides on an example, and the words that they saw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Person = ""
    signal_id: str | None = Field(
        default=None, description="`signal_id` of the example that was seen; another word since then is a conflict"
    )


class Acceptance(Decision):
    """The example is learnt."""

    answer: Text | None = Field(default=None, description="In place of the answer that it calls good")


class Rejection(Decision):
    """The example is not learnt."""

    note: Annotated[str, Field(max_length=2000)] = ""


def add_routes(router: APIRouter, ctx: Context[SqlStore]) -> None:
    """Adds the routes under /v1/review."""

    @router.get("/v1/review", tags=["review"])
    async def held(
        project: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50, after: str | None = None
    ) -> dict[str, Any]:
        """Examples that wait for a reviewer, the oldest first, of all projects or of one."""
        place = decode(after, moment, str)

        def read(store: SqlStore) -> dict[str, Any]:
            rows = store.examples.held(project, place, limit + 1)
            shown = page(rows, limit, lambda kept: [kept.example.said_at.isoformat(), kept.example.example_id])
            return shown | {"items": documents(store, shown["items"])}

        return await ctx.read(read)

    @router.get("/v1/review/{example_id}", tags=["review"], responses=errors(404))
    @needs("read", by_handler=True)
    async def show(example_id: str, by: By) -> dict[str, Any]:
        """An example and what became of it."""
        (shown,) = await ctx.read(lambda store: documents(store, [found(store, example_id, by)]))
        return shown

    @router.post("/v1/review/{example_id}/accept", tags=["review"], responses=errors(404, 409, 422))
    @needs("approve", by_handler=True)
    async def let_in(example_id: str, decision: Acceptance, by: By) -> dict[str, Any]:
        """Learn a held example, perhaps with another answer."""

        def decide(store: SqlStore, kept: Kept) -> list[Event]:
            return accept(kept, decision.by or by.name, decision.answer, store)

        return await ctx.transact(lambda store: decided(store, example_id, decision, by, decide))

    @router.post("/v1/review/{example_id}/reject", tags=["review"], responses=errors(404, 409))
    @needs("approve", by_handler=True)
    async def keep_out(example_id: str, decision: Rejection, by: By) -> dict[str, Any]:
        """Do not learn a held example."""

        def decide(store: SqlStore, kept: Kept) -> list[Event]:
            return reject(kept, decision.by or by.name, decision.note, store)

        return await ctx.transact(lambda store: decided(store, example_id, decision, by, decide))


def decided(
    store: SqlStore,
    example_id: str,
    decision: Decision,
    by: Caller,
    decide: Callable[[SqlStore, Kept], list[Event]],
) -> tuple[dict[str, Any], list[Event]]:
    """The example after a reviewer's decision, and its events.

    Raises:
        ApiError: 404 where there is none, 403 where it is not the caller's, 409 where it waits no more or was said anew
            meanwhile, 422 where the other answer makes no record.
    """
    kept = found(store, example_id, by, lock=True)
    if decision.signal_id not in (None, kept.example.signal_id):
        raise ApiError(409, "said_anew", f"{example_id} was said anew since it was looked at; look at it again")
    try:
        events = decide(store, kept)
    except NotHeld as error:
        raise ApiError(409, "not_held", f"{error}; only held examples are decided on") from error
    except RecordInvalid as error:
        raise ApiError(422, error.code, str(error)) from error
    (shown,) = documents(store, [found(store, example_id, by)])
    return shown, events


def found(store: SqlStore, example_id: str, by: Caller, *, lock: bool = False) -> Kept:
    """The example.

    Raises:
        ApiError: 404 where there is none, 403 where it is not the caller's.
    """
    kept = store.examples.get(example_id, lock=lock)
    if kept is None:
        raise ApiError(404, "unknown_example", f"there is no example {example_id!r}")
    by.check(kept.example.project)
    return kept


def documents(store: SqlStore, shown: Sequence[Kept]) -> list[dict[str, Any]]:
    """Examples as JSON."""
    outputs = store.outputs(sorted({kept.example.request_id for kept in shown}))
    return [document(kept, outputs.get(kept.example.request_id)) for kept in shown]


def document(kept: Kept, answered: str | None) -> dict[str, Any]:
    """An example as JSON: what was asked and answered, which answer it calls good or bad, why it waits, whom it comes from.

    `answered` is None where the request is no longer kept.
    """
    example = kept.example
    raw = example.record.model_dump(mode="json")
    bad = raw["rejected"][-1]["content"] if isinstance(example.record, Preference) else None
    if example.good is None:
        bad = example.text
    return {
        "example_id": example.example_id,
        "project": example.project,
        "source": example.source,
        "status": kept.status,
        "reason": kept.reason,
        "detail": kept.detail,
        "until": kept.until.isoformat() if kept.until else None,
        "prompt": [turn.model_dump(mode="json") for turn in prompt_turns(example.record)],
        "good": None if example.good is None else example.text,
        "bad": bad,
        "answered": answered,
        "request_id": example.request_id,
        "signal_id": example.signal_id,
        "model": example.teacher or f"{example.model.name}@{example.model.version}",
        "user": example.user,
        "said_at": example.said_at.isoformat(),
        "by": kept.by,
        "note": kept.note,
    }
