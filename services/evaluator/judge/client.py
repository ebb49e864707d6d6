"""One question to a judge over HTTP, within a time and a number of bytes. Tries once; keeps nothing."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import httpx

from contracts.judge import Judge
from services.chassis.endpoints.failures import MOST_ERROR_BYTES, error_object, retry_after
from services.chassis.observability.redaction import redact
from services.evaluator.judge.question import Body

MOST_BYTES = 1_000_000
"""Of an answer."""


class Said(NamedTuple):
    """A judge's answer; `counted` says that the endpoint told its tokens, else a quarter of the characters was taken."""

    text: str
    first_token: Mapping[str, float]
    prompt_tokens: int
    completion_tokens: int
    counted: bool


class Fault(Exception):
    """A question that got no answer.

    `code` is one of unreachable, silent, broken_off, busy, failed, nonsense (which may pass), refused (this request), and
    unauthorised, redirects, unknown (every request). `pause`: seconds that the endpoint wants to be left alone. `may_have_cost`:
    it may have worked for its money.
    """

    def __init__(self, code: str, detail: str, pause: float | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.pause = code, pause

    @property
    def passes(self) -> bool:
        """Whether the same question may be answered at another try."""
        return self.code in ("unreachable", "silent", "broken_off", "busy", "failed", "nonsense")

    @property
    def is_lasting(self) -> bool:
        """Whether no question will be answered."""
        return self.code in ("unauthorised", "redirects", "unknown")

    @property
    def may_have_cost(self) -> bool:
        """Whether the endpoint may have worked for its money without telling how much."""
        return self.code in ("silent", "broken_off", "nonsense")


def open_client() -> httpx.Client:
    """A client for all threads; it follows no redirect and keeps no connection that a fault could have spoilt."""
    return httpx.Client(follow_redirects=False, limits=httpx.Limits(max_connections=None, max_keepalive_connections=16))


def ask(client: httpx.Client, judge: Judge, secret: str | None, body: Body) -> Said:
    """The judge's answer to a body of `/chat/completions`.

    Raises:
        Fault: there is none.
    """
    seconds = judge.timeout.total_seconds()
    until = time.monotonic() + seconds
    headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "noria"}
    if secret is not None:
        headers["authorization"] = f"Bearer {secret}"
    timeout = httpx.Timeout(seconds, connect=min(seconds, 10.0), pool=None)
    try:
        with client.stream(
            "POST", f"{judge.url}/chat/completions", json=dict(body), headers=headers, timeout=timeout
        ) as response:
            if response.status_code != 200:
                raise _fault(response, _read(response, MOST_ERROR_BYTES, until))
            whole = _read(response, MOST_BYTES + 1, until)
    except httpx.ConnectError as error:
        raise Fault("unreachable", redact(str(error))[:200]) from error
    except httpx.TimeoutException as error:
        raise Fault("silent", f"no whole answer in {seconds:g} s") from error
    except httpx.HTTPError as error:
        raise Fault("broken_off", redact(str(error))[:200] or type(error).__name__) from error
    return _said(whole, body)


def _read(response: httpx.Response, most: int, until: float) -> bytes:
    """The body's beginning. A body that trickles would never meet the time limit of a single read."""
    held = b""
    for part in response.iter_raw():
        held += part
        if len(held) >= most:
            return held[:most]
        if time.monotonic() > until:
            raise httpx.ReadTimeout("the answer takes too long")
    return held


def _fault(response: httpx.Response, body: bytes) -> Fault:
    status = response.status_code
    said = f"{status}: {redact(str(error_object(body).get('message') or ''))[:200]}"
    pause = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
    if status == 429:
        return Fault("busy", said, pause)
    if status >= 500:
        return Fault("failed", said, pause)
    if status in (401, 403):
        return Fault("unauthorised", said)
    if status < 400:
        return Fault("redirects", f"{status}, which is not followed")
    if status in (404, 405):
        return Fault("unknown", said)
    return Fault("refused", said)


def _said(whole: bytes, body: Body) -> Said:
    if len(whole) > MOST_BYTES:
        raise Fault("nonsense", f"the answer has more than {MOST_BYTES} bytes")
    try:
        given: Any = json.loads(whole)
        choice = given["choices"][0]
        text = choice["message"]["content"]
        if not isinstance(text, str):
            raise TypeError("content is no text")
        found = choice.get("logprobs")
        tops = found["content"][0]["top_logprobs"] if found else []
        first_token = {str(top["token"]): float(top["logprob"]) for top in tops}
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise Fault("nonsense", f"it is no answer of OpenAI's kind ({type(error).__name__})") from error
    usage: Any = given.get("usage")
    told = cast(dict[str, Any], usage) if isinstance(usage, dict) else {}
    prompt, completion = told.get("prompt_tokens"), told.get("completion_tokens")
    if type(prompt) is int and type(completion) is int and min(prompt, completion) >= 0:
        return Said(text, first_token, prompt, completion, True)
    return Said(text, first_token, tokens_of(json.dumps(dict(body))), tokens_of(text), False)


def tokens_of(text: str) -> int:
    """A quarter of the characters, for want of the endpoint's own count."""
    return -(-len(text) // 4)
