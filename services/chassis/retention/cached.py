"""Forgets local copies of artifacts from an object store that nobody wanted for days; they are downloaded again where wanted."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from services.chassis.storage.artifacts import ArtifactStore

LOG: Any = structlog.get_logger("cached")
EVERY_SECONDS = 3600.0


async def keep_forgetting(store: ArtifactStore, days: float) -> None:
    """Looks once an hour until cancelled."""
    while True:
        try:
            count = await asyncio.to_thread(store.forget_cached, datetime.now(UTC) - timedelta(days=days))
        except OSError as error:
            LOG.warning("local copies of artifacts could not be deleted", detail=str(error)[:300])
        else:
            if count:
                LOG.info("local copies of artifacts deleted", files=count)
        await asyncio.sleep(EVERY_SECONDS)
