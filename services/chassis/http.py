"""The HTTP application of a service and the shape of its errors. Knows no route of a service."""

import asyncio
import contextlib
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from services.chassis.errors import NoriaError


class Server(uvicorn.Server):
    """uvicorn that wakes once a second instead of ten times: an idle service shall cost nothing."""

    async def main_loop(self) -> None:
        """Returns when the server shall end; keeps the Date header fresh."""
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        while not self.should_exit and not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), 1.0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends at once, not at the next tick."""
        super().handle_exit(sig, frame)
        if hasattr(self, "_loop"):
            self._loop.call_soon_threadsafe(self._end.set)


class ApiError(NoriaError):
    """An answer other than success: {"error": {"code", "message", "detail"}} with an HTTP status."""

    def __init__(self, status: int, code: str, message: str, detail: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.detail = detail


def answer(status: int, code: str, message: str, detail: Any = None) -> JSONResponse:
    """An error as the APIs give it."""
    return JSONResponse({"error": {"code": code, "message": message, "detail": detail}}, status_code=status)


def install_errors(app: FastAPI) -> None:
    """Makes every error of `app` have the one shape."""

    async def api(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)  # noqa: S101 - registered for this class alone
        return answer(error.status, error.code, str(error), error.detail)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        detail = [{"loc": list(item["loc"]), "msg": item["msg"]} for item in error.errors()]
        return answer(422, "invalid_request", "the request does not have the right shape; see detail", detail)

    async def plain(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101
        return answer(
            error.status_code,
            {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "error"),
            str(error.detail),
        )

    app.add_exception_handler(ApiError, api)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
