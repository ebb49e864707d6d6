"""The gateway's routes: OpenAI's API and the list of deployments. Knows no Triton and no SQL."""

import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from services.chassis.context import Context
from services.serving.calls import admit, begin
from services.serving.domain.answers import model_card
from services.serving.domain.errors import ApiFault, ModelNotFound, TooLarge, UnknownUrl
from services.serving.domain.requests import Asked, parse_chat, parse_completion
from services.serving.domain.routing import resolve
from services.serving.exchange import Exchange, fault_response
from services.serving.runtime import Runtime
from services.serving.store import Store

_CHAT = {
    "requestBody": {"content": {"application/json": {"schema": {"type": "object", "required": ["model", "messages"]}}}}
}
_TEXT = {
    "requestBody": {"content": {"application/json": {"schema": {"type": "object", "required": ["model", "prompt"]}}}}
}


def make_router(runtime: Runtime) -> Callable[[Context[Store]], APIRouter]:
    """The routes on what the gateway and the deployer share."""

    def router(ctx: Context[Store]) -> APIRouter:
        routes = APIRouter()
        _add_generation(routes, runtime)
        _add_models(routes, runtime)

        @routes.get("/v1/deployments")
        async def deployments() -> dict[str, Any]:
            """All versions that were promoted, and what became of them."""
            return {"items": [s.body() for s in await ctx.read(lambda store: store.standing())], "next": None}

        @routes.api_route("/v1/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
        async def unknown(path: str, request: Request) -> Response:
            """What OpenAI's API has and this one has not."""
            return fault_response(UnknownUrl(f"{request.method} /v1/{path} is not offered here", "unknown_url"))

        return routes

    return router


def _add_generation(routes: APIRouter, runtime: Runtime) -> None:
    @routes.post("/v1/chat/completions", openapi_extra=_CHAT)
    async def chat(request: Request) -> Response:
        """OpenAI's chat completions, whole or as a stream."""
        return await _generate(runtime, request, parse_chat)

    @routes.post("/v1/completions", openapi_extra=_TEXT)
    async def completions(request: Request) -> Response:
        """OpenAI's completions: the text goes to the model as it is."""
        return await _generate(runtime, request, parse_completion)


def _add_models(routes: APIRouter, runtime: Runtime) -> None:
    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        """All names that answer."""
        table = runtime.routes
        return {"object": "list", "data": [model_card(name, resolve(table, name)) for name in table.names()]}

    @routes.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        """One name and what answers behind it."""
        try:
            return JSONResponse(model_card(name, resolve(runtime.routes, name)))
        except ModelNotFound as fault:
            return fault_response(fault)


async def _generate(runtime: Runtime, request: Request, parse: Callable[[bytes], Asked]) -> Response:
    started = time.perf_counter()
    try:
        call = begin(runtime, parse(await _body(request, runtime.settings.max_body_bytes)), started)
        return Exchange(runtime, call, admit(runtime, call))
    except ApiFault as fault:
        if runtime.figures:
            runtime.figures.refused.labels(str(fault.status)).inc()
        return fault_response(fault)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody reads it; nginx's code for a client that left


async def _body(request: Request, limit: int) -> bytes:
    """The request's body, refused as soon as it is known to be too large."""
    message = f"the body has more than {limit} bytes, the most that is taken (NORIA_SERVING_MAX_BODY_BYTES)"
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(message, "request_too_large")
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLarge(message, "request_too_large")
        parts.append(part)
    return b"".join(parts)
