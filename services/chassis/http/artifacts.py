"""Artifacts over HTTP: how a service's routes tell that one is not to be had, and what the collection learns of its rows."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Engine

from services.chassis.errors import ArtifactCorrupt, ArtifactMissing, ArtifactRefused, ArtifactUnavailable
from services.chassis.http.application import ApiError
from services.chassis.retention import references
from services.chassis.storage.database import reading
from services.chassis.storage.pages import decode_list, encode


@contextmanager
def telling() -> Generator[None]:
    """What the artifact store says of a file, as ApiError: 409 where it is lost or altered, 503 where the store is away."""
    try:
        yield
    except ArtifactMissing as error:
        raise ApiError(409, "artifact_missing", str(error)) from error
    except ArtifactCorrupt as error:
        raise ApiError(409, "artifact_corrupt", str(error)) from error
    except ArtifactRefused as error:
        raise ApiError(409, "artifact_refused", str(error)) from error
    except ArtifactUnavailable as error:
        raise ApiError(503, "store_unavailable", str(error), headers={"retry-after": "5"}) from error


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
