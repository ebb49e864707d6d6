"""Opens the spool of requests and answers and keeps it flowing to Kafka. Knows nothing of what is recorded.

Policy: no answer goes unrecorded. Where the spool cannot be written (disk full) or too much waits in it (Kafka away for
long), requests are refused with 503 before a model is asked, and readiness says why.
"""

import asyncio
import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from contracts.events.serving import InferenceCompletedV1
from services.chassis.context import Context
from services.chassis.messaging.relay import Backlog
from services.chassis.observability import traces
from services.chassis.storage.spool import Spool
from services.serving.metrics import GatewayMetrics
from services.serving.runtime import Runtime
from services.serving.settings import ServingSettings
from services.serving.store import Store

CHECK_SECONDS = 5.0
FREE_BYTES = 32 << 20
"""Below so little free disk nothing more is accepted: the other files of the home need some, too."""
FEW = 100
"""Waiting records; a large file with so few has only not been shrunk."""


async def run(runtime: Runtime, ctx: Context[Store]) -> None:
    """Runs until it is cancelled."""
    path = runtime.settings.home / "state" / "serving-spool.db"
    spool = await _open(runtime, ctx, path)
    # One thread of its own: writers do not wait for each other's locks, and no write stops the streams of the event loop.
    with ThreadPoolExecutor(1, thread_name_prefix="spool") as writer:
        loop = asyncio.get_running_loop()

        async def record(event: InferenceCompletedV1) -> None:
            traceparent = traces.current()
            await loop.run_in_executor(writer, lambda: spool.put(event, event.request_id, traceparent=traceparent))

        runtime.record = record
        relay = asyncio.create_task(spool.relay())
        try:
            while True:
                runtime.record_fault = await asyncio.to_thread(find_fault, spool, path, runtime.settings)
                if runtime.metrics is not None:
                    with contextlib.suppress(DBAPIError):  # what it means for recording, the next record tells
                        _show(await asyncio.to_thread(spool.backlog), runtime.metrics)
                await asyncio.sleep(CHECK_SECONDS)
        finally:
            runtime.record = None
            relay.cancel()
            await asyncio.gather(relay, return_exceptions=True)
            spool.close()


async def _open(runtime: Runtime, ctx: Context[Store], path: Path) -> Spool:
    while True:
        try:
            return await asyncio.to_thread(Spool, path, runtime.settings, ctx.metrics)
        except Exception as fault:
            runtime.record_fault = f"the spool {path} cannot be opened: {fault}"
            ctx.log.exception("spool.not_opened", path=str(path))
            await asyncio.sleep(CHECK_SECONDS)


def _show(state: Backlog, metrics: GatewayMetrics) -> None:
    metrics.spool_waiting.set(state.waiting)
    metrics.spool_age.set(state.age)


def find_fault(spool: Spool, path: Path, settings: ServingSettings) -> str | None:
    """Why nothing more can be recorded, None where it can."""
    free = shutil.disk_usage(path.parent).free
    if free < FREE_BYTES:
        return f"only {free >> 20} MB are free on the disk of {path.parent}; make room"
    size = sum(p.stat().st_size for p in (path, path.with_name(path.name + "-wal")) if p.exists())
    if size > settings.spool_bytes and (waiting := spool.backlog().waiting) > FEW:
        return f"{waiting} records wait for Kafka, more than spool_bytes ({settings.spool_bytes}); is Kafka away?"
    return None
