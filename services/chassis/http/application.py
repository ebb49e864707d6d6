"""The HTTP application of a service and the shape of its errors. Knows no route of a service."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from types import FrameType
from typing import Annotated, Any

import structlog
import uvicorn
from fastapi import FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DataError, DBAPIError
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.chassis.errors import NoriaError
from services.chassis.storage.database import is_database_fault
from services.chassis.timeouts import wait_at_most

Number = Annotated[int, Path(ge=0, le=2**31 - 1)]
"""The number of a version or dataset in a path: what an integer column holds."""


LOG: Any = structlog.get_logger("service")
UNSENT_BYTES = 16_384
"""Of an answer that may wait for its reader in this process, and as many in the kernel."""
STOP_SECONDS = 10.0
"""A service that was told to end and cannot, since a locked database holds its threads, ends hard: a crash loses nothing."""


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 with little room between an answer and its reader: one who takes nothing is soon noticed.

    By default the kernel alone takes 4 MB (net.ipv4.tcp_wmem) of an answer that nobody reads. What the reader's own system
    took cannot be told from what it has read.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Bounds what waits in this process, and what waits unsent in the kernel (tcp(7), TCP_NOTSENT_LOWAT)."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        connected: socket.socket | None = transport.get_extra_info("socket")
        if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


class Server(uvicorn.Server):
    """uvicorn that wakes once a second instead of ten times: an idle service shall cost nothing.

    Once it is told to end it still answers, for at most `drain_seconds`, until `drain` returns; told again it ends at once.
    """

    def __init__(
        self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]] | None = None, drain_seconds: float = 0.0
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_seconds = drain_seconds if drain else 0.0

    async def main_loop(self) -> None:
        """Returns when the server shall end; keeps the Date header fresh."""
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        while not self.should_exit and not await self.on_tick(0):
            await wait_at_most(self._end, 1.0)
        self._end.clear()
        if self._drain is not None:
            await self._drained(asyncio.ensure_future(self._drain()))

    async def _drained(self, draining: asyncio.Future[None]) -> None:
        deadline = time.monotonic() + self._drain_seconds
        again = asyncio.create_task(self._end.wait())
        try:
            while not draining.done() and not again.done() and time.monotonic() < deadline:
                await asyncio.wait((draining, again), timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                await self.on_tick(0)
        finally:
            again.cancel()
            draining.cancel()
            await asyncio.gather(draining, again, return_exceptions=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends at once, not at the next tick; within the time to drain and STOP_SECONDS whatever happens."""
        super().handle_exit(sig, frame)
        limit = threading.Timer(self._drain_seconds + STOP_SECONDS, _end_hard)
        limit.daemon = True
        limit.start()
        if hasattr(self, "_loop"):
            self._loop.call_soon_threadsafe(self._end.set)


def _end_hard() -> None:
    LOG.error("the service could not stop in time and ends as it is", seconds=STOP_SECONDS)
    os._exit(1)


class ApiError(NoriaError):
    """An answer other than success: {"error": {"code", "message", "detail"}} with an HTTP status."""

    def __init__(
        self, status: int, code: str, message: str, detail: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers


class ErrorDetail(BaseModel):
    """What an error says: `code` is a stable word, `detail` is for programs."""

    code: str | None
    message: str
    detail: Any = None


class Problem(BaseModel):
    """The body of every error."""

    error: ErrorDetail


CODES = {400: "unreadable_body", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
MEANINGS = {
    400: "The request cannot be understood",
    401: "No valid API key",
    403: "The API key is not for this",
    404: "Not found",
    409: "Not possible as things stand",
    413: "The body is too large",
    415: "The content type is not taken",
    422: "The request has not the right shape",
    429: "Too many requests; see Retry-After",
    503: "Not now; see Retry-After",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route for its OpenAPI document."""
    return {status: {"model": Problem, "description": MEANINGS[status]} for status in statuses}


def answer(error: ApiError) -> JSONResponse:
    """An error as the APIs give it."""
    said = {"code": error.code, "message": str(error), "detail": error.detail}
    return JSONResponse({"error": said}, status_code=error.status, headers=error.headers)


def install_errors(app: FastAPI, shape: Callable[[ApiError], Response] = answer) -> None:
    """Makes every error of `app` have the one shape."""

    async def api(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)  # noqa: S101 - registered for this class alone
        return shape(error)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        detail = [{"loc": list(item["loc"]), "msg": item["msg"]} for item in error.errors()]
        message = "the request does not have the right shape; see detail"
        return shape(ApiError(422, "invalid_request", message, detail))

    async def plain(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        code = CODES.get(error.status_code, "error")
        return shape(ApiError(error.status_code, code, str(error.detail), headers=error.headers))

    async def database(_: Request, error: Exception) -> Response:
        if isinstance(error, DataError):  # PostgreSQL on a NUL in a text, or a number out of range
            return shape(ApiError(422, "invalid_request", "a value in the request is none that can be stored"))
        if not is_database_fault(error):
            raise error
        message = "the database is away, locked or full; the request can be sent again"
        return shape(ApiError(503, "database_unavailable", message, headers={"retry-after": "2"}))

    app.add_exception_handler(ApiError, api)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(DBAPIError, database)
