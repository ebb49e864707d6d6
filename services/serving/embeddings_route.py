"""The route of embeddings: texts to the embedder in parts, each in its turn, and OpenAI's answer. Nothing of it is recorded."""

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from contracts.project import Serve
from services.chassis.http.application import errors
from services.chassis.http.guard import caller, needs
from services.chassis.http.limits import BodyLimit
from services.chassis.observability import traces
from services.serving.admission import refuse_stopping
from services.serving.answer_document import EmbeddingsAnswer, answer_document
from services.serving.completion_response import fault_response
from services.serving.domain.embeddings import (
    EmbeddingsBody,
    answer,
    check_lengths,
    check_model,
    embeddings_span,
    item,
    parse_embeddings,
    parts,
)
from services.serving.domain.errors import ApiFault, Cut, Overloaded, Unavailable
from services.serving.domain.fair_queue import Flow
from services.serving.domain.routing import EMBEDDER
from services.serving.edge import whole_body
from services.serving.embedder import check_files, tokens
from services.serving.embedder_loading import PART_SECONDS
from services.serving.request_document import request_document
from services.serving.runtime import Runtime
from services.serving.triton import client
from services.serving.triton.embedding import embed

MAX_BODY = 4_194_304
"""Bytes: 2,048 texts of 2 kB. Nothing of it becomes an event, which bounds the other routes' bodies."""

_TOO_LARGE = f"the body has more than {MAX_BODY} bytes, the most that is taken here; send fewer texts at once"
_ANSWERS = {**answer_document(EmbeddingsAnswer), **errors(404, 415, 503)}


class _Left(Exception):
    """The client did not wait for its answer."""


def add_embeddings(routes: APIRouter, runtime: Runtime) -> None:
    """Adds POST /v1/embeddings."""

    @routes.post("/v1/embeddings", openapi_extra=request_document(EmbeddingsBody), responses=_ANSWERS)
    @needs("infer", by_handler=True, body=BodyLimit(MAX_BODY))
    async def embeddings(request: Request) -> Response:
        """OpenAI's embeddings, by the packaged model; any key that may infer is for it."""
        try:
            return await _answer(runtime, request)
        except ApiFault as fault:
            if runtime.metrics:
                runtime.metrics.refuse(fault.status)
            return fault_response(fault)
        except (ClientDisconnect, _Left):
            return Response(status_code=499)


async def _answer(runtime: Runtime, request: Request) -> Response:
    started = time.perf_counter()
    asked = parse_embeddings(await whole_body(request, _TOO_LARGE))
    check_model(runtime.routes, asked.model)
    check_files(runtime.settings)
    refuse_stopping(runtime)
    with _at_work(runtime):
        texts = await asyncio.to_thread(tokens, runtime.settings, asked.input)
        check_lengths([len(text) for text in texts])
        key = caller(request).name
        count, outcome = sum(map(len, texts)), "error"
        try:
            items = await _items(runtime, request, asked.encoding_format, texts, key)
            outcome = "ok"
        except _Left:
            outcome = "cancelled"
            raise
        finally:
            _note(runtime, key, asked.encoding_format, count, outcome, time.perf_counter() - started)
    return Response(answer(items, count), media_type="application/json")


@contextmanager
def _at_work(runtime: Runtime) -> Generator[None]:
    embedder = runtime.embedder
    if embedder.at_work >= runtime.settings.max_in_flight:
        raise Overloaded(f"{embedder.at_work} requests for embeddings are at work already", 1)
    embedder.at_work += 1
    try:
        yield
    finally:
        embedder.at_work -= 1


async def _items(
    runtime: Runtime, request: Request, encoding_format: str, texts: list[list[int]], key: str
) -> list[bytes]:
    """The embedding of each text, in their order.

    Raises:
        ApiFault: as the client should see it.
        _Left: nobody waits for them.
    """
    await runtime.embedder.held()
    found, turns = [b""] * len(texts), runtime.turns
    deadline = time.perf_counter() + runtime.settings.answer_seconds
    todo = parts([len(text) for text in texts])
    sizes = [sum(len(texts[place]) for place in part) for part in todo]
    ticket = turns.join(EMBEDDER, Flow("", key), sizes[0], 0, Serve().max_wait.total_seconds())
    try:
        for number, part in enumerate(todo):
            if number:
                turns.again(ticket, sizes[number])
            await ticket.wait(runtime.settings.waiting_seconds)
            if await request.is_disconnected():
                raise _Left
            if time.perf_counter() > deadline:
                raise Cut(f"The answer took longer than {runtime.settings.answer_seconds:g} s.", "answer_too_long")
            for place, vector in zip(part, await _embedded(runtime, [texts[p] for p in part]), strict=True):
                found[place] = item(place, vector, encoding_format)
            turns.saw(ticket, sizes[number], ended=True)
    finally:
        turns.leave(ticket)
    return found


async def _embedded(runtime: Runtime, texts: list[list[int]]) -> list[bytes]:
    """The vectors of a part; what fails makes the embedder looked at."""
    generation, triton = await runtime.embedder.held(), runtime.triton
    if triton is None:
        raise Unavailable("Triton does not answer; the request can be sent again soon.", "triton_unavailable")
    try:
        return await embed(triton, generation, texts, PART_SECONDS)
    except client.TritonFault as fault:
        runtime.embedder.suspect()
        said = f"{EMBEDDER} failed: {str(fault)[:500]}; the request can be sent again."
        raise Unavailable(said, "model_failed") from fault


def _note(runtime: Runtime, key: str, encoding_format: str, count: int, outcome: str, seconds: float) -> None:
    """Counts a request and leaves its span; its text and its vectors are kept nowhere."""
    name, attributes = embeddings_span(encoding_format, count)
    traces.note(name, "CLIENT", seconds, attributes, outcome if outcome != "ok" else None)
    if (metrics := runtime.metrics) is None:
        return
    metrics.requests.labels("embeddings", outcome).inc()
    metrics.embedding_seconds.labels(EMBEDDER).observe(seconds)
    who = metrics.project(EMBEDDER), metrics.key(key)
    metrics.of_project.labels(*who, outcome).inc()
    metrics.project_seconds.labels(*who).inc(seconds)
    if outcome == "ok":
        metrics.embedding_tokens.labels(EMBEDDER).inc(count)
        metrics.project_tokens.labels(*who, "input").inc(count)
