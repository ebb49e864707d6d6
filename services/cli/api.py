"""Calls the services' HTTP interfaces and turns what goes wrong into errors a person can act on. Knows no verb."""

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from compose.local import API_KEY
from services.cli.addresses import settings
from services.cli.errors import Refused, Unreachable, Usage

if TYPE_CHECKING:
    from ssl import SSLContext

    import httpx

TIMEOUT = 30.0
"""Seconds until a service that took a request counts as silent."""
COMMANDS: Mapping[str, str] = {
    "unknown_run": "`noria runs` lists them",
    "unknown_evaluation": "`noria models` shows what was measured",
    "unknown_dataset": "`noria datasets` lists them",
    "unknown_model": "`noria models` lists them",
    "model_not_found": "`noria models` lists them",
    "unknown_project": "define it with `noria apply FILE`",
}
"""What to type, by an error's code, where a service names a route."""
_ROUTE = re.compile(r"[;.] [^;.]*\b(?:GET|POST) /v1/[^;]*$")


def get(service: str, path: str, **params: Any) -> Any:
    """The JSON that `service` answers to GET `path`; parameters that are None are left out.

    Raises:
        Unreachable: it does not answer.
        Refused: it answered with an error.
    """
    return request(service, "GET", path, params={k: v for k, v in params.items() if v is not None})


def post(service: str, path: str, body: Any = None) -> Any:
    """The JSON that `service` answers to POST `path` with a JSON body. Raises as `get`."""
    return request(service, "POST", path, json=body)


def items(service: str, path: str, limit: int = 50, after: str | None = None, **params: Any) -> dict[str, Any]:
    """{"items", "next"}: up to `limit` items of a service's pages from a place on, and the place after them. Raises as `get`."""
    found: list[dict[str, Any]] = []
    while len(found) < limit:
        page = get(service, path, limit=min(limit - len(found), 100), after=after, **params)
        found += page["items"]
        after = page.get("next")
        if after is None or not page["items"]:
            break
    return {"items": found, "next": after}


def request(service: str, method: str, path: str, **options: Any) -> Any:
    """One request and its JSON answer. Raises as `get`."""
    with client(service) as http:
        return checked(service, http.request(method, path, **options))


@contextmanager
def client(service: str, timeout: float = TIMEOUT) -> "Generator[httpx.Client]":
    """An HTTP client for `service` whose transport errors become Unreachable."""
    import httpx

    where = settings()
    with telling(service, f"{where.host}:{where.port(service)}", timeout):
        options: Any = {"base_url": where.url(service), "timeout": timeout, "headers": authorization()}
        with httpx.Client(**options, verify=_trusted(), trust_env=False) as http:
            yield http


@cache
def _trusted() -> "SSLContext":
    """Who is trusted: made once, for it takes 30 ms, and a file of 5 GB is sent by 2,500 clients."""
    import httpx

    return httpx.create_ssl_context(trust_env=False)


@contextmanager
def telling(service: str, at: str, timeout: float) -> Generator[None]:
    """Transport errors of `service`, which listens `at` an address, become Unreachable."""
    import httpx

    try:
        yield
    except httpx.TimeoutException as error:
        message = f"{service} on {at} did not answer within {timeout:g} s; see `noria status` and its log"
        raise Unreachable("timeout", message) from error
    except httpx.ConnectError as error:
        message = f"{service} does not answer on {at}; start it with `noria up`"
        raise Unreachable("unreachable", message) from error
    except httpx.HTTPError as error:
        message = f"the connection to {service} on {at} broke: {error}; see `noria status` and its log"
        raise Unreachable("connection_broken", message) from error


def authorization() -> dict[str, str]:
    """The header that carries NORIA_API_KEY; none where it is not set.

    Raises:
        Usage: it can be no key.
    """
    key = os.environ.get(API_KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise Usage("bad_setting", f"{API_KEY} has characters that no API key has")
    return {"authorization": f"Bearer {key}"} if key else {}


def checked(service: str, answer: "httpx.Response") -> Any:
    """The JSON of an answer, whose body has been read.

    Raises:
        Refused: the answer is an error or no JSON.
    """
    try:
        body: Any = answer.json()
    except ValueError:
        body = None
    if answer.is_success and body is not None:
        return body
    code, message, detail = _error(body)
    message = typed(code, message) or f"{service} answered {answer.status_code}"
    if answer.status_code == 401:
        message += f"; set {API_KEY} to one that is not revoked (`noria keys create`, `noria keys list`)"
    elif answer.status_code == 403:
        message += f"; set {API_KEY} to one that may (`noria keys list` shows what each may)"
    raise Refused(answer.status_code, code, message, detail)


def typed(code: str, message: str) -> str:
    """A service's message with the command in the place of the route that it sends its callers to."""
    found = _ROUTE.search(message) if code in COMMANDS else None
    return f"{message[: found.start()]}; {COMMANDS[code]}" if found else message


def _error(body: Any) -> tuple[str, str, Any]:
    """Code, message and detail of the services' errors, of OpenAI's and of FastAPI's own."""
    if not isinstance(body, Mapping):
        return "http_error", "", None
    whole = cast(Mapping[str, Any], body)
    error = whole.get("error")
    if isinstance(error, Mapping):
        said = cast(Mapping[str, Any], error)
        return (
            str(said.get("code") or said.get("type") or "http_error"),
            str(said.get("message", "")),
            said.get("detail"),
        )
    return "http_error", str(whole.get("detail") or ""), None
