"""Asks an OpenAI-compatible endpoint many questions at once, within a bound, and hands back the answers in order.

A question that is refused for what it is has its refusal as its answer; one that came too early is asked again after the time
that the endpoint names. Knows no prompt and no case.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.cli import api
from services.cli.addresses import settings
from services.cli.errors import Refused

if TYPE_CHECKING:
    import httpx

SILENCE = 300.0
"""Seconds until an answer counts as lost: a busy CPU may take long."""
AT_ONCE = 8
"""Questions at one time where nobody says otherwise: the rows of the bundled engine."""
PATIENCE = 300.0
"""Seconds for which a question is asked again that an endpoint has no room for."""
OF_THE_QUESTION = (400, 413, 422)
"""Statuses that say something of one question; others concern all of them."""
NO_ROOM = (429, 503)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where chats are answered: `url` up to /v1, the headers that prove who asks, and a name for messages."""

    url: str
    headers: Mapping[str, str]
    name: str
    proxied: bool = False
    """Whether the environment's proxies are between."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question: `text`, or why there is none in `error`. `seconds` is all the time it took, waiting included."""

    text: str
    seconds: float
    error: str | None = None
    no_room: bool = False
    """Whether the error says nothing of the question: the endpoint had no room for it for PATIENCE seconds."""
    version: str | None = None
    request_id: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    tokens: int | None = None


Done = Callable[[int, Answer], None]
"""Is told the index of a question and its answer as soon as it is there."""


Begins = Callable[[int], None]


def gateway() -> Endpoint:
    """The project's own gateway, with NORIA_API_KEY. Raises Usage."""
    return Endpoint(f"{settings().url('serving')}/v1", api.authorization(), "serving")


def ask_all(
    endpoint: Endpoint,
    bodies: Sequence[Mapping[str, Any]],
    done: Done = lambda index, answer: None,
    at_once: int = AT_ONCE,
    begins: Begins = lambda index: None,
) -> list[Answer]:
    """The answers to chats, in their order; `at_once` are asked at one time; `begins` is told each before it is sent.

    Raises:
        Unreachable: the endpoint does not answer.
        Refused: it refuses what concerns all questions: the key, the model, the version of a prompt.
    """
    try:
        return asyncio.run(_ask_all(endpoint, bodies, done, at_once, begins))
    except BaseExceptionGroup as group:
        raise _first(group) from group


async def _ask_all(
    endpoint: Endpoint, bodies: Sequence[Mapping[str, Any]], done: Done, at_once: int, begins: Begins
) -> list[Answer]:
    import httpx

    answers: dict[int, Answer] = {}
    turn = asyncio.Semaphore(at_once)

    async def one(index: int) -> None:
        async with turn:
            begins(index)
            answers[index] = await ask(http, endpoint, bodies[index])
        done(index, answers[index])

    secure = endpoint.url.startswith("https:")  # reading the system's certificates takes 25 ms, for nothing without TLS
    options: Any = {"timeout": SILENCE, "trust_env": endpoint.proxied, "verify": secure}
    limits = httpx.Limits(max_connections=at_once)
    with api.telling(endpoint.name, endpoint.url, SILENCE):
        async with httpx.AsyncClient(headers=dict(endpoint.headers), limits=limits, **options) as http:
            try:
                async with asyncio.TaskGroup() as group:
                    for index in range(len(bodies)):
                        group.create_task(one(index))
            except BaseExceptionGroup as failed:
                raise _first(failed) from failed
    return [answers[index] for index in range(len(bodies))]


async def ask(http: "httpx.AsyncClient", endpoint: Endpoint, body: Mapping[str, Any]) -> Answer:
    """The answer to one chat. Raises as `ask_all`, and httpx's errors."""
    began = time.monotonic()
    while True:
        reply = await http.post(f"{endpoint.url}/chat/completions", json=body)
        seconds = time.monotonic() - began
        wait = wait_for(reply)
        if reply.status_code not in NO_ROOM or seconds + wait > PATIENCE:
            return answer(endpoint, reply, seconds)
        await asyncio.sleep(wait)


def answer(endpoint: Endpoint, reply: "httpx.Response", seconds: float) -> Answer:
    """A whole answer, or a refusal that concerns this question alone. Raises Refused."""
    try:
        body = api.checked(endpoint.name, reply)
    except Refused as refused:
        if refused.status not in (*OF_THE_QUESTION, *NO_ROOM):
            raise
        return Answer("", seconds, error=f"{refused.code}: {refused.message}", no_room=refused.status in NO_ROOM)
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"] or ""
    except (LookupError, TypeError) as error:
        raise Refused(reply.status_code, "no_answer", f"{endpoint.url} answered with no chat completion") from error
    usage = body.get("usage") or {}
    return Answer(
        text=str(text),
        seconds=seconds,
        version=reply.headers.get("x-noria-model-version"),
        request_id=body.get("id"),
        finish_reason=choice.get("finish_reason"),
        prompt_tokens=usage.get("prompt_tokens"),
        tokens=usage.get("completion_tokens"),
    )


def wait_for(reply: "httpx.Response") -> float:
    """The seconds that a refusal says to wait; 1 where it says none that can be read."""
    try:
        return min(max(float(reply.headers.get("retry-after", 1)), 0.05), 60.0)
    except ValueError:
        return 1.0


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
