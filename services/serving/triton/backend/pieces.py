"""Cuts prompts into blocks that are always the same, and says how many tokens a pass may read beside running rows.

What is computed of a block depends on the prompt alone: attention and adapters work block by block however many
blocks one pass reads, so an answer does not depend on how busy the engine was (oneDNN's packed products are the
same for any number of tokens: services/lm/lora_linear.py). Deep in a prompt a token attends to more, so blocks shrink.

Reading beside decoding in one pass is Sarathi-Serve's (arXiv:2403.02310), where the weights are read once for both.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

BLOCKS = ((512, 32), (2048, 16))  # up to this position blocks of this many tokens
SMALLEST = 8
MOST_TOKENS = 512
SLOWDOWN = 2.5  # of a pass that reads beside running rows; less than 3, which is what users are promised
LONE_SECONDS = 0.5  # about what a pass may take beside few rows or none: a request that comes meanwhile waits little
CROWD = 4  # short prompts to read, and more than rows run: then all are read first, as passes with few rows cost most
SHORT = 512  # tokens; a longer prompt makes no crowd
LEAST_LONE = 96.0  # tokens of such a pass however long it takes: with fewer the weights are read for too little
PLAIN_EVERY = 16  # one pass in so many only decodes, to know how long that takes now


def blocks(start: int, most: int, end: int) -> list[tuple[int, int]]:
    """Returns the blocks from `start` on, a block's beginning, of together at most `most` tokens, but at least one block."""
    found: list[tuple[int, int]] = []
    at = start
    while at < end:
        size = next((size for below, size in BLOCKS if at < below), SMALLEST)
        stop = min(at + size, end)
        if found and stop - start > most:
            break
        found.append((at, stop))
        at = stop
    return found


@dataclass(slots=True)
class Budget:
    """How many tokens the next pass may read, from how long the last ones took."""

    beside: float = 0.0  # tokens a pass while rows run
    lone: float = 64.0  # and while none does
    plain: deque[float] = field(default_factory=lambda: deque[float](maxlen=5))  # seconds of passes that only decoded
    passes: int = 0
    crowd: bool = False  # whether a crowd of prompts is being read
    free: bool = True  # whether the next pass has LONE_SECONDS

    def tokens(self, rows: int, rests: Sequence[int]) -> int:
        """Tokens for a pass with so many running rows and these to read; 0 for one that shall only decode."""
        short = sum(rest <= SHORT for rest in rests)
        self.crowd = short > 0 and (self.crowd or short >= max(CROWD, rows + 1))
        self.free = not rows or self.crowd
        if not rests:
            return 0
        if self.free:
            return int(self.lone)
        self.passes += 1
        return 0 if not self.plain or self.passes % PLAIN_EVERY == 0 else max(1, int(self.beside))

    def took(self, seconds: float, rows: int, read: int) -> None:
        """Takes in how long a pass with so many rows took that read so many tokens."""
        if rows and not read:
            self.plain.append(seconds)
        elif self.free:
            self.lone = min(max((rows + read) * LONE_SECONDS / max(seconds, 1e-3) - rows, LEAST_LONE), MOST_TOKENS)
        else:
            goal = SLOWDOWN * median(self.plain)
            self.beside = min(max(self.beside, read) * 1.2 + 1, MOST_TOKENS) if seconds < goal * 0.8 else self.beside
            self.beside = min(self.beside, read) * 0.7 if seconds > goal else self.beside
