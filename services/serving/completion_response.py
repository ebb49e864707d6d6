"""Sends a completion's answer over ASGI, whole or as a stream, and gives up when the client does. Knows no route.

The record is on disk before the last byte leaves: before the body of a whole answer, before the finish chunk of a
stream. An answer that cannot be recorded ends as an error, never silently.
"""

import asyncio
import contextlib
from contextlib import aclosing

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from services.chassis.http.application import ApiError
from services.serving.completion import Completion, broken_off, depart, pieces
from services.serving.domain.answers import Chunks, opening, sse, whole
from services.serving.domain.errors import ApiFault, Cut, ReaderStalled, Unavailable, error_body
from services.serving.domain.record import Outcome
from services.serving.recording import record
from services.serving.runtime import Runtime
from services.serving.triton.client import Triton

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_LOOK = 2.0
"""Seconds between two looks at whether the model of a running answer is still there."""
_BROKEN = "the model was lost"


class CompletionResponse(Response):
    """The response of one completion: an answer raced against the client's leaving."""

    def __init__(self, runtime: Runtime, completion: Completion, triton: Triton) -> None:
        self.runtime = runtime
        self.completion = completion
        self.triton = triton
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers; a client that leaves cancels its request in Triton."""
        self._enter(1)
        answering = asyncio.create_task(_answer(self, scope, receive, send))
        leaving = asyncio.create_task(_left(receive))
        try:
            while not (await asyncio.wait((answering, leaving), timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED))[0]:
                if broken_off(self.runtime, self.completion):
                    answering.cancel(_BROKEN)
        finally:
            leaving.cancel()
            answering.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
            depart(self.runtime, self.completion)
            self._enter(-1)
        if not answering.cancelled() and (error := answering.exception()):
            raise error

    def _enter(self, change: int) -> None:
        self.runtime.in_flight += change
        if self.runtime.metrics:
            self.runtime.metrics.in_flight.set(self.runtime.in_flight)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(response: CompletionResponse, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole of an response, with its record in each of the three outcomes."""
    runtime, completion = response.runtime, response.completion
    stream = _Stream(completion, send, runtime.settings.reader_seconds) if completion.asked.stream else None

    async def fail(fault: ApiFault) -> None:
        outcome = "cancelled" if isinstance(fault, Cut) else "error"
        await _record_anyway(runtime, completion, outcome, f"{fault.code}: {fault.message}")
        if isinstance(fault, ReaderStalled):
            return  # an answer that does not end: the server closes the connection
        if stream and stream.started:
            with contextlib.suppress(ReaderStalled):
                await stream.fail(fault)
        else:
            await fault_response(fault, completion.headers)(scope, receive, send)

    try:
        async with aclosing(pieces(runtime, response.triton, completion)) as chunks:
            async for chunk in chunks:
                if stream and chunk.text:
                    await stream.text(chunk.text)
        await record(runtime, completion, "ok")
        if stream:
            await stream.close()
        else:
            body = whole(
                completion.head,
                completion.progress.text,
                completion.progress.finish_reason or "stop",
                completion.progress.usage,
            )
            await JSONResponse(body, headers=completion.headers)(scope, receive, send)
    except asyncio.CancelledError as cancelled:
        if cancelled.args != (_BROKEN,):
            await _record_anyway(runtime, completion, "cancelled", None)
            raise
        await fail(Unavailable("The model's process was lost; the request can be sent again.", "answer_broken_off"))
    except ApiFault as fault:
        await fail(fault)


async def _record_anyway(runtime: Runtime, completion: Completion, outcome: Outcome, error: str | None) -> None:
    """Records what did not end well. Where even that fails the client has its error, and readiness says why."""
    with contextlib.suppress(Unavailable):
        await record(runtime, completion, outcome, error)


def fault_response(fault: ApiFault, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error answer in OpenAI's shape."""
    retry = {"retry-after": str(fault.retry_after)} if isinstance(fault, Unavailable) else {}
    return JSONResponse(error_body(fault), status_code=fault.status, headers={**(headers or {}), **retry})


def openai_shape(error: ApiError) -> JSONResponse:
    """An error of the chassis (a key, a limit, an unknown route) in OpenAI's shape, with the chassis' detail."""
    kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(error.status)
    said = {"message": str(error), "type": kind or "invalid_request_error", "param": None, "code": error.code}
    return JSONResponse({"error": said | {"detail": error.detail}}, error.status, error.headers)


class _Stream:
    """A stream of server-sent events; its status goes out with the first text, so a fault before it has its own."""

    def __init__(self, completion: Completion, send: Send, seconds: float) -> None:
        self.completion = completion
        self.seconds = seconds
        self.send = send
        self.chunks = Chunks(completion.head)
        self.started = False

    async def text(self, text: str) -> None:
        if body := self.chunks.piece(text):
            await self._body(body)

    async def close(self) -> None:
        progress = self.completion.progress
        await self._body(self.chunks.closing(progress.finish_reason or "stop", progress.usage), more=False)

    async def fail(self, fault: ApiFault) -> None:
        """The status is out already: the error is an event, which OpenAI's clients raise, and no [DONE] follows."""
        await self._body(sse(error_body(fault)), more=False)

    async def _body(self, body: bytes, more: bool = True) -> None:
        if not self.started:
            self.started = True
            pairs = {**_STREAM_HEADERS, **self.completion.headers}
            headers = [(name.encode(), value.encode()) for name, value in pairs.items()]
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
            body = opening(self.completion.head) + body
        try:  # the server lets a body wait while the client takes nothing
            async with asyncio.timeout(self.seconds):
                await self.send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise ReaderStalled(self.seconds) from None
