"""How long a request would wait for its turn, and at what pace a model answers. Pure: knows no clock and no Triton."""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

HALF = 60.0
"""Seconds of answering (of one row) after which an observation counts half."""


@dataclass(slots=True)
class Rate:
    """Tokens that rows made and the seconds that they took for them, the latest weighing most."""

    tokens: float = 0.0
    seconds: float = 0.0

    def saw(self, tokens: float, seconds: float) -> None:
        """A row made `tokens` in `seconds`."""
        kept = 0.5 ** (seconds / HALF)
        self.tokens, self.seconds = self.tokens * kept + tokens, self.seconds * kept + seconds

    @property
    def a_second(self) -> float | None:
        """Tokens a second of a row, None where nothing was observed."""
        return self.tokens / self.seconds if self.tokens > 0 and self.seconds > 0 else None


@dataclass(slots=True)
class Pace:
    """What was observed of a model's answers: how fast a row is among how many, and how many of the allowed tokens were made.

    A row's seconds count from when its request was let on to Triton, so that reading the prompt is in them.
    """

    rates: dict[int, Rate] = field(default_factory=dict[int, Rate])
    """By the number of bits of how many rows ran: 1, 2 to 3, 4 to 7, ..."""
    made: float = 0.0
    allowed: float = 0.0

    def saw(self, tokens: float, seconds: float, rows: int) -> None:
        """One of `rows` rows made `tokens` in `seconds`."""
        self.rates.setdefault(rows.bit_length(), Rate()).saw(tokens, seconds)

    def ended(self, made: float, allowed: float) -> None:
        """An answer that might have had `allowed` tokens ended after `made`."""
        self.made, self.allowed = 0.9 * self.made + made, 0.9 * self.allowed + allowed

    def per_row(self, rows: int) -> float | None:
        """Tokens a second that each of `rows` rows makes, None where nothing was observed.

        Told from what was observed with as many; else with about as many, and slower by `slowed` where those were fewer.
        """
        wanted = rows.bit_length()
        known = {bits: rate for bits, found in self.rates.items() if (rate := found.a_second)}
        if not known:
            return None
        nearest = min(known, key=lambda bits: (abs(bits - wanted), -bits))
        return slowed(known[nearest], 1 << nearest, 1 << wanted)

    def expected(self, allowed: float) -> float:
        """Tokens that an answer of at most `allowed` is expected to have: no more, and at least one."""
        return max(1.0, allowed * (min(1.0, self.made / self.allowed) if self.allowed > 0 else 1.0))


def slowed(per_row: float, seen: int, rows: int) -> float:
    """The pace of each of `rows` rows where that of each of `seen` was `per_row`: among fewer or as many it is the same.

    Among more it falls with the root of their number: on two cores a row of SmolLM2-135M made 12.1 tokens a second alone, 5.3
    among 8 and 2.0 among 32 (docs/benchmarks.md). On a GPU it falls less, and soon that is observed.
    """
    return per_row * min(1.0, (max(1, seen) / max(1, rows)) ** 0.5)


def wait_seconds(running: Iterable[float], ahead: Iterable[float], rows: int, tokens_per_second: float) -> float:
    """Seconds until a request that comes now is let on: list scheduling of what is before it onto the rows.

    Args:
        running: tokens that each running answer is still expected to make; may be more answers than rows.
        ahead: tokens of each waiting request whose turn comes before this one's, in their order.
        rows: answers at once, at least 1.
        tokens_per_second: of one row, above 0.

    Source: Graham, "Bounds on Multiprocessing Timing Anomalies", 1969: the earliest free machine takes the next.
    """
    free = [0.0] * max(1, rows)
    for tokens in (*sorted(running), *ahead):
        heapq.heappush(free, heapq.heappop(free) + max(0.0, tokens))
    return free[0] / tokens_per_second


def retry_after(wait: float, limit: float) -> int:
    """Whole seconds after which a request that would wait `wait` would wait at most `limit`, if no other came."""
    return max(1, math.ceil(min(wait, 86_400.0) - limit))


def level(demands: Iterable[int], rows: int) -> int:
    """The most that each may have of `rows` so that all have what they want or that much; `rows` where that is enough."""
    left, wanted = rows, sorted(demands)
    for place, want in enumerate(wanted):
        if want * (len(wanted) - place) > left:
            return left // (len(wanted) - place)
        left -= want
    return rows
