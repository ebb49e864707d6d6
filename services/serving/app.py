"""Wires serving: the gateway, the deployer and the spool on the chassis. Decides nothing."""

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Any

from services.chassis.app import run
from services.chassis.context import Context
from services.chassis.service import Service
from services.serving import deployer, embedder_loading, model_cache, request_spool
from services.serving.completion_response import openai_shape
from services.serving.edge import edge
from services.serving.figures import horizons
from services.serving.handlers import HANDLERS
from services.serving.http import make_router
from services.serving.metrics import gateway_metrics
from services.serving.restore import RESTORE
from services.serving.runtime import Runtime, drain, spool_check, stopping_check, triton_check
from services.serving.settings import ServingSettings
from services.serving.store import SqlStore, artifact_references
from services.serving.teacher import spending


def make_service(settings: ServingSettings) -> Service:
    """The service with these settings."""
    runtime = Runtime(settings)

    async def serve(ctx: Context[Any]) -> None:
        runtime.metrics = gateway_metrics(ctx.metrics, runtime.settings)
        try:
            await asyncio.gather(
                deployer.run(runtime, ctx),
                request_spool.run(runtime, ctx),
                embedder_loading.keep(runtime, ctx),
                spending.keep(runtime, ctx),
            )
        finally:
            runtime.templates.end()

    return Service(
        settings=settings,
        handlers=HANDLERS,
        store=SqlStore,
        migrations=Path(__file__).parent / "migrations",
        restore=RESTORE,
        artifact_references=artifact_references(),
        horizons=horizons(settings.answer_days),
        router=make_router(runtime),
        ready={
            "triton": partial(triton_check, runtime),
            "spool": partial(spool_check, runtime),
            "stopping": partial(stopping_check, runtime),
        },
        background=(serve, model_cache.keep_sweeping),
        shape=openai_shape,
        middleware=edge(settings),
        drain=partial(drain, runtime),
        drain_seconds=settings.drain_seconds,
    )


service = make_service(ServingSettings())
SWITCH_SECONDS = 0.0005
"""How long a thread that writes records or reads a database may keep the streams' event loop from running on."""

if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_SECONDS)
    run(service)
