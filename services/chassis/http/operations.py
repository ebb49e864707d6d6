"""The routes by which operations look at a service's parked messages and refused events, and resolve them. Decides nothing."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, Field

from contracts.envelope import Event
from services.chassis.context import Context
from services.chassis.messaging import parking, refused, retry
from services.chassis.storage.database import reading, writing
from services.chassis.storage.pages import decode, page

Limit = Annotated[int, Query(ge=1, le=500)]


class Resolution(BaseModel):
    """Which refused events, who resolves them, and why."""

    numbers: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(min_length=1, max_length=500)
    by: str = Field(min_length=1, max_length=200)
    reason: str = Field(default="", max_length=2000)


def make_router(context: Context[Any], wake: Callable[[], None]) -> APIRouter:
    """The routes of parked messages, whose tries `wake` starts, and of refused events."""
    router = APIRouter(tags=["operations"])
    _add_parked(router, context, wake)
    _add_refused(router, context)
    return router


def _add_parked(router: APIRouter, context: Context[Any], wake: Callable[[], None]) -> None:
    """GET /parked (a page) and POST /parked/retry {"number": one, or null for all}.

    Each row's `deadline` is when it becomes a dead letter, NORIA_PARK_DAYS after it was parked.
    """
    engine, group, days = context.engine, context.settings.group, context.settings.park_days

    def listed(after: int, limit: int) -> list[dict[str, Any]]:
        with reading(engine) as connection:
            return [_with_deadline(row, days) for row in parking.listing(connection, group, after, limit)]

    def made_due(number: int | None) -> int:
        with writing(engine) as connection:
            return parking.retry_now(connection, group, number, datetime.now(UTC))

    @router.get("/parked")
    async def parked(limit: Limit = 50, after: str | None = None) -> dict[str, Any]:
        place = decode(after, int)
        rows = await asyncio.to_thread(listed, place[0] if place else 0, limit + 1)
        return page(rows, limit, key=lambda row: [row["number"]])

    @router.post("/parked/retry")
    async def try_again(number: Annotated[int | None, Body(embed=True, ge=0, lt=2**63)] = None) -> dict[str, int]:
        count = await asyncio.to_thread(made_due, number)
        wake()
        return {"hastened": count}


def _add_refused(router: APIRouter, context: Context[Any]) -> None:
    """GET /outbox/refused (a page), POST /outbox/retry and POST /outbox/discard, which answer the numbers they resolved."""

    def listed(topic: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        with reading(context.engine) as connection:
            return refused.listing(connection, topic, after, limit)

    async def resolved(body: Resolution, action: refused.Action) -> dict[str, list[int]]:
        def change(store: Any) -> tuple[list[int], list[Event]]:
            connection, name = store.session.connection(), context.settings.SERVICE
            audit = refused.resolve(connection, body.numbers, action, name, body.by, body.reason)
            return [event.number for event in audit], list[Event](audit)

        return {"resolved": await context.transact(change)}

    @router.get("/outbox/refused")
    async def refused_events(limit: Limit = 50, after: str | None = None, topic: str | None = None) -> dict[str, Any]:
        place = decode(after, int)
        rows = await asyncio.to_thread(listed, topic, place[0] if place else 0, limit + 1)
        return page(rows, limit, key=lambda row: [row["number"]])

    @router.post("/outbox/retry")
    async def send_again(body: Resolution) -> dict[str, list[int]]:
        return await resolved(body, "retried")

    @router.post("/outbox/discard")
    async def give_up(body: Resolution) -> dict[str, list[int]]:
        return await resolved(body, "discarded")


def _with_deadline(row: dict[str, Any], days: float) -> dict[str, Any]:
    waits_for_a_handler = row["reason"] == retry.NOT_HANDLED
    return {**row, "deadline": None if waits_for_a_handler else parking.deadline(row["parked_at"], days)}
