"""Sends the answer of a request over ASGI, whole or as a stream, and gives up when the client does. Knows no route.

The record is on disk before the last byte leaves: before the body of a whole answer, before the finish chunk of a
stream. An answer that cannot be recorded ends as an error, never silently.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from services.chassis.http.application import ApiError
from services.serving.admission import depart
from services.serving.completion import Completion, broken_off, pieces
from services.serving.domain.answers import Choice, Usage
from services.serving.domain.errors import ApiFault, Cut, ReaderStalled, Unavailable, error_body
from services.serving.domain.forms import FORMS
from services.serving.domain.record import Outcome
from services.serving.domain.token_scores import Score
from services.serving.recording import record
from services.serving.runtime import Runtime
from services.serving.teacher.pieces import teacher_pieces
from services.serving.triton.client import Chunk, Triton

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_LOOK = 2.0
"""Seconds between two looks at whether the model of a running answer is still there."""


class CompletionResponse(Response):
    """The response of a request's completions: an answer raced against the client's leaving."""

    def __init__(self, runtime: Runtime, completions: Sequence[Completion], triton: Triton | None) -> None:
        self.runtime = runtime
        self.completions = completions
        self.triton = triton
        self.broken = False
        """The model was lost: that, and not the client's leaving, is why the answer was cancelled."""
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers; a client that leaves cancels its request in Triton."""
        self._enter(1)
        answering = asyncio.create_task(_answer(self, scope, receive, send))
        leaving = asyncio.create_task(_left(receive))
        try:
            while not (await asyncio.wait((answering, leaving), timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED))[0]:
                if not self.broken and any(broken_off(self.runtime, completion) for completion in self.completions):
                    self.broken = True  # a cancellation's own message gets lost on its way through grpc
                    answering.cancel()
        finally:
            leaving.cancel()
            answering.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
            depart(self.runtime, self.completions)
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
    runtime, completions = response.runtime, response.completions
    first = completions[0]
    stream = _Stream(completions, send, runtime.settings.reader_seconds) if first.asked.stream else None

    async def fail(fault: ApiFault) -> None:
        outcome = "cancelled" if isinstance(fault, Cut) else "error"
        for completion in completions:
            await _record_anyway(runtime, completion, outcome, f"{fault.code}: {fault.message}")
        if isinstance(fault, ReaderStalled):
            return  # an answer that does not end: the server closes the connection
        if stream and stream.started:
            with contextlib.suppress(ReaderStalled):
                await stream.fail(fault)
        else:
            await fault_response(fault, first.headers)(scope, receive, send)

    try:
        await _all([_choice(response, completion, stream) for completion in completions])
        if not stream:
            form = FORMS[first.asked.endpoint]
            body = form.whole([_whole(completion) for completion in completions], usage(completions))
            await JSONResponse(body, headers=first.headers)(scope, receive, send)
    except asyncio.CancelledError:
        if not response.broken:
            for completion in completions:
                await _record_anyway(runtime, completion, "cancelled", None)
            raise
        await fail(Unavailable("The model's process was lost; the request can be sent again.", "answer_broken_off"))
    except ApiFault as fault:
        await fail(fault)


async def _all(choices: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Lets all choices be made at once; where one fails the others end.

    Raises:
        ApiFault: of the first that failed.
    """
    if len(choices) == 1:
        await choices[0]
        return
    try:
        async with asyncio.TaskGroup() as group:
            for choice in choices:
                group.create_task(choice)
    except BaseExceptionGroup as faults:
        raise next((fault for fault in faults.exceptions if isinstance(fault, ApiFault)), faults) from None


async def _choice(response: CompletionResponse, completion: Completion, stream: "_Stream | None") -> None:
    """One choice, from its first token to its record and what ends it in a stream."""
    runtime, triton = response.runtime, response.triton
    made = teacher_pieces(runtime, completion) if triton is None else pieces(runtime, triton, completion)
    async with aclosing(made) as chunks:
        async for chunk in chunks:
            if stream and (chunk.text or chunk.logprobs):
                await stream.take(completion, chunk)
    await record(response.runtime, completion, "ok")
    if stream:
        await stream.close(completion)


def _whole(completion: Completion) -> Choice:
    progress = completion.progress
    text, scores = progress.echo + progress.text, progress.echoed + progress.scores
    return Choice(completion.head, text, progress.finish_reason or "stop", scores)


def usage(completions: Sequence[Completion]) -> Usage:
    """Of a request: the tokens of a prompt that several choices have are counted once."""
    counted = (replace(c.progress.usage, prompt_tokens=0) if c.asked.again else c.progress.usage for c in completions)
    return sum(counted, Usage())


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


@dataclass
class _Shown:
    """What a stream has told of one choice."""

    begun: bool = False
    scores: list[Score] = field(default_factory=list[Score])
    """Not told yet."""


class _Stream:
    """A stream of server-sent events; its status goes out with the first text, so a fault before it has its own."""

    def __init__(self, completions: Sequence[Completion], send: Send, seconds: float) -> None:
        self.completions = completions
        self.seconds = seconds
        self.send = send
        heads = [completion.head for completion in completions]
        self.answer = FORMS[completions[0].asked.endpoint].stream(heads)
        self.shown = [_Shown() for _ in heads]
        self.open = len(completions)
        self.turn = asyncio.Lock()
        self.started = False

    async def take(self, completion: Completion, chunk: Chunk) -> None:
        """The next piece of a choice. Scores wait for the text that they are of."""
        shown = self.shown[completion.head.index]
        shown.scores += chunk.logprobs
        if not chunk.text:
            return
        scores, shown.scores = shown.scores, []
        begun = self._begun(completion) if not completion.head.tools else b""
        if body := self.answer.piece(completion.head.index, chunk.text, scores):
            await self._body((begun or self._begun(completion)) + body)

    async def close(self, completion: Completion) -> None:
        """The end of a choice, and of the stream with the last of them."""
        index, reason = completion.head.index, completion.progress.finish_reason or "stop"
        self.open -= 1
        last = not self.open
        body = self._begun(completion) + self.answer.closing(index, reason, self.shown[index].scores)
        await self._body(body + (self.answer.ending(usage(self.completions)) if last else b""), more=not last)

    async def fail(self, fault: ApiFault) -> None:
        """The status is out already: the error is an event, which OpenAI's clients raise."""
        await self._body(self.answer.failure(fault), more=False)

    def _begun(self, completion: Completion) -> bytes:
        shown = self.shown[completion.head.index]
        if shown.begun:
            return b""
        shown.begun, said = True, completion.progress
        index = completion.head.index
        return self.answer.opening(index) + (self.answer.piece(index, said.echo, said.echoed) if said.echo else b"")

    async def _body(self, body: bytes, more: bool = True) -> None:
        async with self.turn:
            if not self.started:
                self.started = True
                pairs = {**_STREAM_HEADERS, **self.completions[0].headers}
                headers = [(name.encode(), value.encode()) for name, value in pairs.items()]
                await self.send({"type": "http.response.start", "status": 200, "headers": headers})
            try:  # the server lets a body wait while the client takes nothing
                async with asyncio.timeout(self.seconds):
                    await self.send({"type": "http.response.body", "body": body, "more_body": more})
            except TimeoutError:
                raise ReaderStalled(self.seconds) from None
