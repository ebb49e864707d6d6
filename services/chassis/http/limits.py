"""How much and how often: a request's body in bytes, and a caller's requests in a token bucket. Knows no key."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

REMEMBERED = 10_000
"""Callers whose buckets are kept; the one not seen longest goes first."""


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """Most bytes of a body, and the setting that says so, where one does."""

    bytes: int
    setting: str | None = None


class TooLarge(HTTPException):
    """413. An HTTPException, since FastAPI makes a 400 of any other error that comes while it reads a body."""

    def __init__(self, limit: BodyLimit) -> None:
        by = f" ({limit.setting})" if limit.setting else ""
        most = f"{limit.bytes} bytes, the most that is taken here{by}"
        super().__init__(413, f"the body has more than {most}; send it in parts")


class BodyMeter:
    """Counts a request's body while it is read. `limit` may still be changed until then."""

    __slots__ = ("_declared", "_receive", "_taken", "limit")

    def __init__(self, receive: Receive, declared: int, limit: BodyLimit) -> None:
        self._receive = receive
        self._declared = declared
        self._taken = 0
        self.limit = limit

    async def receive(self) -> Message:
        """The next message.

        Raises:
            TooLarge: the body is, or says that it will be, above the limit.
        """
        if self._declared > self.limit.bytes:
            raise TooLarge(self.limit)
        message = await self._receive()
        self._taken += len(message.get("body") or b"")
        if self._taken > self.limit.bytes:
            raise TooLarge(self.limit)
        return message


class TokenBuckets:
    """Token buckets by caller: `burst` requests at once, `per_second` in the long run; 0 a second lets all pass."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, caller: str) -> int:
        """0 where the caller's request may pass; else whole seconds until one may."""
        if not self._per_second:
            return 0
        now = self._clock()
        tokens, then = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._per_second)
        passes = tokens >= 1
        self._buckets[caller] = (tokens - 1 if passes else tokens, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return 0 if passes else math.ceil((1 - tokens) / self._per_second)
