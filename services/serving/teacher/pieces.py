"""A teacher's answer in the pieces in which a model of Triton's would come. Knows no HTTP of the gateway's own."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from contracts.teacher import Teacher
from services.chassis.endpoints.secret import find_secret
from services.chassis.observability.redaction import redact
from services.serving.completion import Completion, note
from services.serving.domain.errors import ApiFault, Cut, Invalid, TeacherAway, TeacherFailed
from services.serving.domain.teacher_answer import Piece, TeacherReader
from services.serving.domain.teacher_request import body, estimated, path
from services.serving.runtime import Runtime
from services.serving.teacher.calls import answering, objects
from services.serving.triton.client import Chunk


async def teacher_pieces(runtime: Runtime, completion: Completion) -> AsyncGenerator[Chunk]:
    """The answer as it comes; `completion.progress` grows with it. Closing the iterator ends the request to the teacher.

    Raises:
        ApiFault: as the client should see what became of it.
    """
    target = completion.head.target
    project, teacher = target.model.name, cast(Teacher, target.teacher)
    if completion.ticket is not None:
        await completion.ticket.wait(runtime.settings.waiting_seconds)
    completion.last_piece = time.perf_counter()
    try:
        async with aclosing(_asked(runtime, completion)) as chunks:
            async for chunk in chunks:
                yield chunk
    except (Cut, Invalid) as fault:
        if isinstance(fault, Invalid):
            runtime.teachers.succeeded(project)  # it answers, if not this
        raise
    except ApiFault as fault:
        fault.message = redact(fault.message)
        runtime.teachers.failed(project, teacher, time.monotonic(), f"{fault.code}: {fault.message}")
        if runtime.metrics:
            runtime.metrics.teacher_failures.labels(fault.code or "").inc()
        raise
    else:
        runtime.teachers.succeeded(project)


async def _asked(runtime: Runtime, completion: Completion) -> AsyncGenerator[Chunk]:
    asked, target, progress = completion.asked, completion.head.target, completion.progress
    teacher, reader, told, count = cast(Teacher, target.teacher), TeacherReader(), None, 0
    key = find_secret(teacher.key, runtime.settings.secrets) if teacher.key else None
    sent = body(asked, target, teacher, completion.sampling["max_tokens"])
    try:
        async with (
            answering(runtime.teachers.client(), teacher, key, path(asked), sent, progress) as response,
            aclosing(objects(response)) as given,
        ):
            began, alive = time.perf_counter(), False
            while (piece := await _next(runtime, completion, given, reader, began, alive)) is not None:
                told = piece.usage or told
                if piece.is_alive:
                    began, alive = time.perf_counter(), True
                if piece.text or piece.finish_reason:
                    count += bool(piece.text)
                    chunk = Chunk(piece.text, piece.finish_reason, 0, count)
                    note(runtime, completion, chunk)
                    yield chunk
        if not reader.ended:
            raise TeacherFailed("The teacher's answer broke off; the request can be sent again.", "teacher_broken_off")
    finally:
        if told is not None:
            progress.usage = told
        elif progress.text:
            progress.usage, progress.estimated = estimated(asked, target, progress.text), True


async def _next(
    runtime: Runtime,
    completion: Completion,
    given: AsyncGenerator[Any],
    reader: TeacherReader,
    since: float,
    alive: bool,
) -> Piece | None:
    """What the next object adds, None after the last.

    Raises:
        Cut: the answer has had all the time that one may take.
        TeacherAway: nothing came for too long since `since`.
        TeacherFailed: it is no answer.
    """
    teacher = cast(Teacher, completion.head.target.teacher)
    settings, now = runtime.settings, time.perf_counter()
    silence = (teacher.timeout.next_token if alive else teacher.timeout.first_token).total_seconds()
    left, quiet = completion.started + settings.answer_seconds - now, since + silence - now
    try:
        async with asyncio.timeout(max(0.0, min(left, quiet))):
            said = await anext(given, None)
    except TimeoutError:
        if left <= quiet:
            raise Cut(f"The answer took longer than {settings.answer_seconds:g} s.", "answer_too_long") from None
        kind = "next token" if alive else "first token"
        raise TeacherAway(f"The teacher's {kind} did not come in {silence:g} s.", "teacher_silent") from None
    return None if said is None else reader.take(said)
