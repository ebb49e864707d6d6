"""The guard of a service's HTTP entrance: who calls, how often, how much, and whether the route is theirs.

Two steps. `GuardMiddleware` comes before routing, so a caller without a key reaches neither a route nor a parser: 401, 429,
and the body's meter. `permit` comes after it, when the route is known: 403. `app.make_app` installs both around every
route; a route says with `needs` what it asks for, and one that says nothing asks for `operate`, or `read` where it is a
GET. Knows no service.
"""

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from services.chassis.http import documentation
from services.chassis.http.application import ApiError, errors
from services.chassis.http.keys import SCOPES, KeyRing, Scope, is_loopback
from services.chassis.http.limits import BodyLimit, BodyMeter, TokenBuckets
from services.chassis.settings import Settings

OPEN = frozenset(
    {
        "/health/live",
        "/health/ready",
        "/metrics",
        "/asyncapi",
        "/openapi.json",
        *documentation.PATHS,
    }
)
"""Paths that need no key and are never limited: probes and scrapers have none, and documents hold no data."""
CALLER, METER = "noria.caller", "noria.meter"
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `projects` None: all of them."""

    name: str
    scopes: frozenset[Scope]
    projects: frozenset[str] | None = None

    def sees(self, project: str | None) -> bool:
        """Whether a project is theirs. What belongs to no project is nobody's whose key names some."""
        return self.projects is None or project in self.projects

    def check(self, project: str | None) -> None:
        """Raises ApiError 403 where the project is not theirs."""
        if not self.sees(project):
            raise _forbidden(f"this API key is not for project {project!r}")


@dataclass(frozen=True, slots=True)
class RouteScopes:
    """What a route asks for: one of `scopes`; `project` names the parameter that holds the project."""

    scopes: frozenset[Scope]
    project: str = "project"
    by_handler: bool = False
    body: BodyLimit | None = None


_READ, _OPERATE = RouteScopes(frozenset({"read"})), RouteScopes(frozenset({"operate"}))
_ALL: frozenset[Scope] = frozenset(SCOPES)


def needs(
    *scopes: Scope, project: str = "project", by_handler: bool = False, body: BodyLimit | None = None
) -> Callable[[F], F]:
    """Declares what a route's function asks for; stands below the route's own decorator.

    Args:
        scopes: one of them suffices.
        project: the path or query parameter that holds the project.
        by_handler: the function itself asks its `By` whether the project is theirs.
        body: the limit of the body, where not the service's own; the function must read it itself.
    """

    def declared(function: F) -> F:
        function.__dict__["need"] = RouteScopes(frozenset(scopes), project, by_handler, body)
        return function

    return declared


def caller(request: Request) -> Caller:
    """Who calls, as the entrance found."""
    return request.scope[CALLER]


By = Annotated[Caller, Depends(caller)]
"""A route's parameter: who calls."""


def permit(request: Request) -> None:
    """Raises ApiError 403 where the caller's key is not for the route or its project."""
    scope = request.scope
    who: Caller = scope[CALLER]
    need: RouteScopes = getattr(scope["endpoint"], "need", None) or (_READ if request.method == "GET" else _OPERATE)
    if need.body is not None:
        scope[METER].limit = need.body
    if who.scopes.isdisjoint(need.scopes):
        wanted = " or ".join(sorted(need.scopes))
        raise _forbidden(f"this API key has not the scope {wanted}; it has {', '.join(sorted(who.scopes)) or 'none'}")
    if who.projects is not None and not need.by_handler:
        _check_project(scope, who, need.project)


def _check_project(scope: AsgiScope, who: Caller, parameter: str) -> None:
    if (project := scope["path_params"].get(parameter)) is not None:
        return who.check(project)
    mine = ", ".join(sorted(who.projects or ())) or "none"
    if parameter not in inspect.signature(scope["endpoint"]).parameters:
        raise _forbidden(f"this API key is for the projects {mine} alone, and this is not a project's")
    asked = parse_qs(scope["query_string"].decode("latin-1")).get(parameter)
    if not asked:
        raise _forbidden(f"this API key is for the projects {mine} alone; name one with ?{parameter}=")
    for each in asked:
        who.check(each)
    return None


def _forbidden(message: str) -> ApiError:
    return ApiError(403, "forbidden", message)


class Guard:
    """What a process knows of its callers: the ring of keys, whether it is open without one, and their rates.

    `ready` says whether there are tables to ask: none yet while the service waits for its database.
    """

    def __init__(self, settings: Settings, ready: Callable[[], bool] = lambda: True) -> None:
        self._ready = ready
        self.ring = KeyRing(settings.api_keys_file)
        self.rates = TokenBuckets(settings.rate_per_second, settings.rate_burst)
        self.body = BodyLimit(settings.max_body_bytes, "NORIA_MAX_BODY_BYTES")
        self._loopback = is_loopback(settings.host)

    def admit(self, address: str, authorization: bytes) -> Caller:
        """Who calls.

        Raises:
            ApiError: 401 without a valid key where one is needed, 429 when they call too often, 503 before the start.
        """
        if not self._ready():
            message = "the service is starting and waits for its database; send the request again"
            raise ApiError(503, "starting", message, headers={"retry-after": "1"})
        self.ring.refresh()
        # A ring of revoked keys alone stays closed: to revoke the last key must not open the door to everybody.
        needed = self.ring.any or not self._loopback
        kind, _, token = authorization.partition(b" ")
        key = self.ring.find(token.strip()) if needed and kind.lower() == b"bearer" else None
        wait = self.rates.wait(key.id if key else address)
        if wait:
            message = f"too many requests; the next is taken in {wait} s"
            raise ApiError(429, "too_many_requests", message, headers={"retry-after": str(wait)})
        if key:
            return Caller(key.id, key.scopes, key.projects)
        if needed:
            message = "this needs a valid API key, sent as `Authorization: Bearer KEY`"
            raise ApiError(401, "unauthorized", message, headers={"www-authenticate": "Bearer"})
        return Caller(address, _ALL)


class GuardMiddleware:
    """The ASGI application behind its guard."""

    def __init__(self, app: ASGIApp, guard: Guard, shape: Callable[[ApiError], Response]) -> None:
        self._app = app
        self._guard = guard
        self._shape = shape

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Lets a request in, or answers it."""
        if scope["type"] == "lifespan" or scope["path"] in OPEN:
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        address = (scope.get("client") or ("unknown", 0))[0]
        try:
            scope[CALLER] = self._guard.admit(address, headers.get(b"authorization", b""))
        except ApiError as error:
            return await self._shape(error)(scope, receive, send)
        declared = headers.get(b"content-length", b"0")
        meter = BodyMeter(receive, int(declared) if declared.isdigit() else 0, self._guard.body)
        scope[METER] = meter
        return await self._app(scope, meter.receive, send)


def install(app: FastAPI, guard: Guard, shape: Callable[[ApiError], Response], *routers: APIRouter) -> None:
    """Puts the guard before `app` and includes `routers` behind it.

    Raises:
        TypeError: a router holds what cannot be guarded.
    """
    app.add_middleware(GuardMiddleware, guard=guard, shape=shape)
    for router in routers:
        for route in router.routes:
            _permit_first(route)
        app.include_router(router, responses=errors(400, 401, 403, 413, 422, 429))
    _describe(app)


def _permit_first(route: BaseRoute) -> None:
    """Has the route ask `permit` before it reads the body.

    By FastAPI's hook for a route's handler: a dependency would do it after the body is parsed, and cost 20 us more.
    """
    if not isinstance(route, APIRoute):
        raise TypeError(f"{route} cannot be guarded: put its routes on the router that the service gives")
    made = route.get_route_handler

    def get_route_handler() -> Handler:
        handle = made()

        async def guarded(request: Request) -> Response:
            permit(request)
            return await handle(request)

        return guarded

    route.get_route_handler = get_route_handler


def _describe(app: FastAPI) -> None:
    """Has the OpenAPI document say which operations take a key."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        document["components"]["securitySchemes"] = {"api_key": {"type": "http", "scheme": "bearer"}}
        for path, item in document["paths"].items():
            for operation in item.values() if path not in OPEN else ():
                operation["security"] = [{"api_key": []}]
        return document

    app.openapi = openapi
