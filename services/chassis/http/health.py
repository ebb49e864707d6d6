"""The routes every service answers: live, ready, metrics, asyncapi. Decides nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from services.chassis.observability import redaction
from services.chassis.observability.metrics import Metrics

Check = Callable[[], Awaitable[str | None]]
CHECK_SECONDS = 3.0


def make_router(
    service: str,
    checks: Mapping[str, Check],
    lag: Callable[[], Awaitable[dict[str, int]]],
    metrics: Metrics,
    refresh: Callable[[], Awaitable[None]],
    kafka: str,
) -> APIRouter:
    """The health routes. `refresh` brings the gauges up to date before they are read."""
    router = APIRouter()

    @router.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        return {"status": "live", "service": service}

    @router.get("/health/ready", tags=["health"], responses={503: {"description": "Not ready, and why"}})
    async def ready() -> JSONResponse:
        report = await readiness(service, checks, lag)
        return JSONResponse(report, status_code=200 if report["status"] == "ready" else 503)

    @router.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def prometheus() -> Response:
        await refresh()
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/asyncapi", tags=["health"])
    def document() -> dict[str, Any]:
        from contracts.export import asyncapi

        return asyncapi(service, kafka)

    return router


async def readiness(
    service: str, checks: Mapping[str, Check], lag: Callable[[], Awaitable[dict[str, int]]]
) -> dict[str, Any]:
    """{"status", "service", "checks": {name: {"ok", "detail"}}, "lag": {topic: messages}}."""
    details = await asyncio.gather(*(_bounded(check) for check in checks.values()))
    report = {
        name: {"ok": detail is None, "detail": redaction.redact(detail or "")}
        for name, detail in zip(checks, details, strict=True)
    }
    well = all(entry["ok"] for entry in report.values())
    return {"status": "ready" if well else "not_ready", "service": service, "checks": report, "lag": await lag()}


async def _bounded(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
