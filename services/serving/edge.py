"""What the gateway does around every route: request ids, HEAD, encoded bodies, browsers of other origins. Knows no route."""

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.serving.completion_response import fault_response
from services.serving.domain.errors import TooLarge, UnsupportedEncoding
from services.serving.settings import ServingSettings

_WELL_FORMED = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_SHOWN = ("x-request-id", "x-noria-request-id", "x-noria-model-version", "retry-after")


class EdgeMiddleware:
    """Answers HEAD as GET without its body, names each request in `x-request-id`, and refuses encoded bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The id is the caller's own where it is well-formed."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, head = Headers(scope=scope), scope["method"] == "HEAD"
        given = headers.get("x-request-id", "")
        name = given if _WELL_FORMED.fullmatch(given) else f"req_{uuid.uuid4().hex}"

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = name
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            said = f"a body with content-encoding {encoding[:40]!r} is not taken; send it as it is"
            await fault_response(UnsupportedEncoding(said, "unsupported_content_encoding"))(scope, receive, named)
            return
        await self.app({**scope, "method": "GET"} if head else scope, receive, named)


def edge(settings: ServingSettings) -> tuple[Middleware, ...]:
    """The gateway's middleware, the outermost last: a browser's preflight request brings no key."""
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["*"],
        expose_headers=_SHOWN,
    )
    return (Middleware(EdgeMiddleware), *([cors] if origins else []))


async def whole_body(request: Request, too_large: str) -> bytes:
    """The request's body, which the entrance cuts off where it is too long.

    Raises:
        TooLarge: it was; `too_large` says at how much and what to do.
        ClientDisconnect: the client left meanwhile.
    """
    try:
        return await request.body()
    except HTTPException as error:
        raise TooLarge(too_large, "request_too_large") from error
