"""Each HTTP request goes on in the trace that its traceparent names; its span, where spans are recorded, is FastAPI's."""

from collections.abc import MutableMapping
from typing import Any

from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from services.chassis.observability import traces

UNTRACED = ("/health/", "/metrics")
"""Asked every few seconds by machines."""


def _untraced(scope: MutableMapping[str, Any]) -> bool:
    return str(scope.get("path", "")).startswith(UNTRACED)


TELEMETRY: TelemetryConfig = {
    "metrics": False,  # GET /metrics has them
    "logs": False,  # an exception's text may hold a secret
    "operation_spans": False,
    "auto_configure": False,
    "exclude": _untraced,
}
"""What FastAPI records by itself (OpenTelemetry HTTP conventions)."""


class Traceparent:
    """Middleware that hands the trace on where no spans are recorded, so that events and jobs still carry it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application in the request's trace, or in a new one."""
        if scope["type"] != "http" or traces.recording() or _untraced(scope):
            await self.app(scope, receive, send)
            return
        token = traces.enter(traces.next_traceparent(_traceparent(scope)))
        try:
            await self.app(scope, receive, send)
        finally:
            traces.leave(token)


def _traceparent(scope: Scope) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
