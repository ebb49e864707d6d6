"""One request to a teacher over HTTP, tried again before anything of its answer came; never after. Reads no answer's meaning."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx

from contracts.teacher import Teacher
from services.chassis.endpoints.failures import (
    LONGEST_PAUSE,
    MOST_ERROR_BYTES,
    error_object,
    pause_before,
    retry_after,
)
from services.chassis.observability.redaction import redact
from services.serving.domain.errors import ApiFault, Invalid, TeacherAway, TeacherBusy, TeacherFailed
from services.serving.domain.record import Progress
from services.serving.domain.teacher_answer import nonsense

MOST_BYTES = 2_000_000
"""Of a whole answer, of an event of a stream, of what is read of an error."""
DONE = "[DONE]"
_REFUSED = (400, 409, 413, 415, 422)
"""What says that the request is at fault, which no other try mends."""


class _Again(Exception):
    """A try failed so that another may not; after `pause` seconds, where the teacher says so."""

    def __init__(self, fault: ApiFault, pause: float | None = None) -> None:
        super().__init__(str(fault))
        self.fault, self.pause = fault, pause


@asynccontextmanager
async def answering(
    client: httpx.AsyncClient, teacher: Teacher, key: str | None, path: str, body: Mapping[str, Any], progress: Progress
) -> AsyncGenerator[httpx.Response]:
    """Gives the response of an answer that began; `progress.attempts` counts the tries.

    Raises:
        ApiFault: the teacher cannot be reached, is silent, refuses or fails, as the client should see it.
    """
    while True:
        progress.attempts += 1
        try:
            response = await _sent(client, teacher, key, path, body)
        except _Again as failed:
            pause = pause_before(progress.attempts) if failed.pause is None else failed.pause
            if progress.attempts > teacher.retries or pause > LONGEST_PAUSE:
                raise failed.fault from failed
            await asyncio.sleep(pause)
            continue
        try:
            yield response
        finally:
            await response.aclose()
        return


async def _sent(
    client: httpx.AsyncClient, teacher: Teacher, key: str | None, path: str, body: Mapping[str, Any]
) -> httpx.Response:
    connect, first = teacher.timeout.connect.total_seconds(), teacher.timeout.first_token.total_seconds()
    headers = {"accept": "text/event-stream, application/json", "accept-encoding": "identity", "user-agent": "noria"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    timeout = httpx.Timeout(first, connect=connect, pool=None)
    try:
        request = client.build_request("POST", teacher.url + path, json=body, headers=headers, timeout=timeout)
        async with asyncio.timeout(connect + first):
            response = await client.send(request, stream=True)
    except httpx.ConnectTimeout as error:
        raise _Again(
            TeacherAway(f"The teacher could not be reached in {connect:g} s.", "teacher_unreachable")
        ) from error
    except (httpx.TimeoutException, TimeoutError) as error:
        raise TeacherAway(f"The teacher said nothing for {first:g} s.", "teacher_silent") from error
    except httpx.TransportError as error:  # a connection that is refused, or ends before the answer begins
        said = redact(str(error))[:200] or type(error).__name__
        raise _Again(TeacherAway(f"The teacher could not be reached: {said}", "teacher_unreachable")) from error
    if response.status_code == 200:
        return response
    try:
        raise await _fault(response, teacher, first)
    finally:
        await response.aclose()


async def _fault(response: httpx.Response, teacher: Teacher, seconds: float) -> ApiFault | _Again:
    status, error = response.status_code, await _error(response, seconds)
    said = redact(str(error.get("message") or ""))[:300]
    if status == 429:
        pause = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        fault = TeacherBusy(f"The teacher takes no more requests now: {said}", "teacher_busy", max(1, int(pause or 5)))
        return _Again(fault, pause)
    if status >= 500:
        fault = TeacherFailed(f"The teacher failed with {status}: {said}", "teacher_failed")
        return _Again(fault, retry_after(response.headers.get("retry-after"), datetime.now(UTC)))
    if status in _REFUSED:
        code, param = error.get("code"), error.get("param")
        texts = [redact(each)[:100] if isinstance(each, str) else None for each in (code, param)]
        return Invalid(f"The teacher refuses the request: {said}", texts[0] or "teacher_refused", texts[1])
    if status in (401, 403):
        whose = f"the key {teacher.key!r}" if teacher.key else "requests without a key"
        return TeacherFailed(f"The teacher refuses {whose} ({status}).", "teacher_unauthorised")
    if 300 <= status < 400:
        return TeacherFailed(
            f"The teacher's endpoint redirects ({status}), which is not followed.", "teacher_redirects"
        )
    return TeacherFailed(f"The teacher answers with {status}, for model {teacher.model!r}: {said}", "teacher_failed")


async def _error(response: httpx.Response, seconds: float) -> Mapping[str, Any]:
    """OpenAI's error object of a response; what is none, or does not come in time, says nothing."""
    try:
        async with asyncio.timeout(seconds):
            return error_object(await _whole(response, MOST_ERROR_BYTES))
    except (TimeoutError, ApiFault, httpx.HTTPError):
        return {}


async def objects(response: httpx.Response) -> AsyncGenerator[Any]:
    """The objects of an answer: of a stream of server-sent events up to [DONE], or the one that is the whole answer.

    Raises:
        TeacherFailed: the answer is neither, too long, or breaks off.
    """
    if response.headers.get("content-encoding", "identity") not in ("", "identity"):
        raise nonsense("it is compressed, which was not asked for")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            yield _read(await _whole(response, MOST_BYTES))
            return
        if kind != "text/event-stream":
            raise nonsense(f"its content-type is {redact(kind)[:80]!r}")
        async for data in _events(response):
            if data == DONE:
                return
            yield _read(data)
    except httpx.HTTPError as error:
        raise TeacherFailed(
            "The teacher's answer broke off; the request can be sent again.", "teacher_broken_off"
        ) from error


def _read(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise nonsense("it is no JSON") from error


async def _whole(response: httpx.Response, most: int) -> bytes:
    held = b""
    async for part in response.aiter_raw():
        held += part
        if len(held) > most:
            raise nonsense(f"it has more than {most} bytes")
    return held


async def _events(response: httpx.Response) -> AsyncGenerator[str]:
    """The data of each event (https://html.spec.whatwg.org/multipage/server-sent-events.html); comments are left out."""
    held, data = b"", list[str]()
    async for part in response.aiter_raw():
        held += part.replace(b"\r\n", b"\n")
        *lines, held = held.split(b"\n")
        if len(held) + sum(map(len, data)) > MOST_BYTES:
            raise nonsense(f"an event has more than {MOST_BYTES} bytes")
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].decode("utf-8", "replace").removeprefix(" ").rstrip("\r"))
            elif not line.strip() and data:
                yield "\n".join(data)
                data = []
    if data:
        yield "\n".join(data)
