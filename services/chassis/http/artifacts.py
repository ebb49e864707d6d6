"""The route by which the collection of artifacts learns what a service's rows name. Decides nothing."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Engine

from services.chassis.http.application import ApiError
from services.chassis.retention import references
from services.chassis.storage.database import reading
from services.chassis.storage.pages import decode_list, encode


def make_router(engine: Engine, sources: Sequence[references.ArtifactReference], days: float) -> APIRouter:
    """GET /v1/artifacts/held: a page of the SHA-256 digests that rows name; a page may be empty and not the last."""
    router = APIRouter(tags=["operations"])

    def listed(after: Sequence[Any] | None, limit: int) -> tuple[set[str], list[Any] | None]:
        with reading(engine) as connection:
            return references.page(connection, sources, after, limit, days, datetime.now(UTC))

    @router.get("/v1/artifacts/held")
    async def named(limit: Annotated[int, Query(ge=1, le=2000)] = 500, after: str | None = None) -> dict[str, Any]:
        place = decode_list(after)
        if place is not None and not references.fits(sources, place):
            raise ApiError(400, "invalid_cursor", "`after` is no cursor; give the `next` of an earlier page")
        found, following = await asyncio.to_thread(listed, place, limit)
        return {"items": sorted(found), "next": encode(following) if following else None}

    return router
