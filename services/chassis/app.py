"""Starts and stops a service: database, Kafka, consumer, relay, retries, jobs, timers, HTTP. Knows no service.

The HTTP entrance opens first, so that /health/ready says what a start waits for.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, Response

from services.chassis import memory
from services.chassis.errors import SettingRefused
from services.chassis.http import application, artifacts, documentation, guard, health, keys, operations, tracing
from services.chassis.observability import logs, traces
from services.chassis.retention import references
from services.chassis.runtime import Runtime
from services.chassis.service import Service
from services.chassis.settings import Settings

LOG: Any = structlog.get_logger("service")


def make_app(service: Service, runtime: Runtime) -> FastAPI:
    """The HTTP application; its lifespan is the service's."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        start = asyncio.create_task(runtime.start())
        start.add_done_callback(runtime.report)
        yield
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        await runtime.stop()

    def shape(error: application.ApiError) -> Response:
        runtime.metrics.http_errors.labels(str(error.status)).inc()
        return service.shape(error)

    app = FastAPI(
        title=f"Noria {service.name}", lifespan=lifespan, docs_url=None, redoc_url=None, telemetry=tracing.TELEMETRY
    )
    application.install_errors(app, shape)
    documentation.install(app)
    checks = runtime.checks()
    bootstrap = service.settings.kafka_bootstrap
    app.include_router(
        health.make_router(service.name, checks, runtime.lag, runtime.metrics, runtime.refresh, bootstrap)
    )
    sources = (*references.CHASSIS, *service.artifact_references)
    routers = [
        operations.make_router(runtime.context, runtime.parked.set),
        artifacts.make_router(runtime.engine, sources, service.settings.artifact_days),
    ]
    if service.router is not None:
        routers.append(service.router(runtime.context))
    guard.install(app, guard.Guard(service.settings, lambda: runtime.migrated), shape, *routers)
    for each in service.middleware:
        app.add_middleware(each.cls, *each.args, **each.kwargs)
    app.add_middleware(tracing.Traceparent)
    return app


def refuse_unguarded_host(settings: Settings) -> None:
    """Ends the process with exit status 2 where others could reach it and no API key would keep them out."""
    try:
        why = keys.start_refusal(settings.host, settings.api_keys_file)
    except keys.KeysUnreadable as error:
        why = str(error)
    if why:
        LOG.error("the service does not start", detail=why)
        sys.exit(2)


def run(service: Service) -> None:
    """Starts everything and blocks until SIGTERM or SIGINT; ends the process where a setting is refused."""
    try:
        serve(service)
    except SettingRefused as error:
        sys.exit(f"{service.name}: {error}")


def serve(service: Service) -> None:
    """Starts everything and blocks until SIGTERM or SIGINT.

    Raises:
        SettingRefused: a setting has no usable value.
    """
    settings = service.settings
    logs.configure_logging(service.name, settings.log_level)
    traces.configure_tracing(service.name)
    refuse_unguarded_host(settings)
    begun = time.monotonic()
    runtime = Runtime(service)
    config = uvicorn.Config(
        make_app(service, runtime),
        host=settings.host,
        port=settings.port,
        http=application.Connection,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    memory.tune_garbage_collector()
    server = application.Server(config, service.drain, service.drain_seconds)
    LOG.info("service starts", host=settings.host, port=settings.port, home=str(settings.home))
    # uvicorn raises the signal that stopped it once more for whoever handled it before; a stop is no failure.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.run()
    LOG.info("service stopped", seconds=round(time.monotonic() - begun, 1))
    if runtime.failed or not server.started:
        sys.exit(1)
