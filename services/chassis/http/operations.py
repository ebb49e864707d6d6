"""The routes by which operations look at a service's parked messages and have them tried again. Decides nothing."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from sqlalchemy import Engine

from services.chassis.messaging import parking, retry
from services.chassis.storage.database import reading, writing
from services.chassis.storage.pages import decode, page


def make_router(engine: Engine, group: str, wake: Callable[[], None], days: float) -> APIRouter:
    """GET /parked (a page) and POST /parked/retry {"number": one, or null for all}. `wake` starts the tries.

    Each row's `deadline` is when it becomes a dead letter, `days` after it was parked.
    """
    router = APIRouter(tags=["operations"])

    def listed(after: int, limit: int) -> list[dict[str, Any]]:
        with reading(engine) as connection:
            return [_with_deadline(row, days) for row in parking.listing(connection, group, after, limit)]

    def made_due(number: int | None) -> int:
        with writing(engine) as connection:
            return parking.retry_now(connection, group, number, datetime.now(UTC))

    @router.get("/parked")
    async def parked(limit: Annotated[int, Query(ge=1, le=500)] = 50, after: str | None = None) -> dict[str, Any]:
        place = decode(after, int)
        rows = await asyncio.to_thread(listed, place[0] if place else 0, limit + 1)
        return page(rows, limit, key=lambda row: [row["number"]])

    @router.post("/parked/retry")
    async def try_again(number: Annotated[int | None, Body(embed=True, ge=0, lt=2**63)] = None) -> dict[str, int]:
        count = await asyncio.to_thread(made_due, number)
        wake()
        return {"hastened": count}

    return router


def _with_deadline(row: dict[str, Any], days: float) -> dict[str, Any]:
    waits_for_a_handler = row["reason"] == retry.NOT_HANDLED
    return {**row, "deadline": None if waits_for_a_handler else parking.deadline(row["parked_at"], days)}
