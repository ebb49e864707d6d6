"""How long a request would wait for its turn, and at what pace a model answers. Pure: knows no clock and no Triton."""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

HALF = 60.0
"""Seconds of answering (of one row) after which an observation counts half."""


@dataclass(slots=True)
class Pace:
    """What was observed of a model's answers: tokens made, seconds that rows took for them, tokens that were allowed.

    A row's seconds count from when its request was let on to Triton, so that reading the prompt is in them.
    """

    tokens: float = 0.0
    seconds: float = 0.0
    made: float = 0.0
    allowed: float = 0.0

    def saw(self, tokens: float, seconds: float) -> None:
        """A row made `tokens` in `seconds`."""
        kept = 0.5 ** (seconds / HALF)
        self.tokens, self.seconds = self.tokens * kept + tokens, self.seconds * kept + seconds

    def ended(self, made: float, allowed: float) -> None:
        """An answer that might have had `allowed` tokens ended after `made`."""
        self.made, self.allowed = 0.9 * self.made + made, 0.9 * self.allowed + allowed

    @property
    def per_row(self) -> float | None:
        """Tokens a second that one row makes, None where nothing was observed."""
        return self.tokens / self.seconds if self.tokens > 0 and self.seconds > 0 else None

    def expected(self, allowed: float) -> float:
        """Tokens that an answer of at most `allowed` is expected to have: no more, and at least one."""
        return max(1.0, allowed * (min(1.0, self.made / self.allowed) if self.allowed > 0 else 1.0))


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
