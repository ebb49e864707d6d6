"""Which units go into which step and which forward pass; lists of integers, no tensors.

A pack is one forward pass: several units in one line of tokens, each row seeing only itself, what its unit's rows share, and
the prefix that all share (a system prompt, mostly), which stands once at the head of the pack. So there is no padding and the
prefix is computed once a pack; the loss is that of the rows alone (Krell et al. 2021, arXiv:2107.02027, for packing without
cross-contamination).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from services.lm.learning import Row
from services.trainer.domain.units import Unit


@dataclass(frozen=True, slots=True)
class Limits:
    """What one forward pass may hold."""

    tokens: int
    targets: int


def common_prefix(rows: Sequence[Row]) -> int:
    """Length of the token prefix that all rows share.

    At least one prompt token stays with each row: the first target is predicted from a position of the row's own.
    """
    if not rows:
        return 0
    low, high = min(row.ids for row in rows), max(row.ids for row in rows)
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return max(0, min(shared, min(row.start for row in rows) - 1))


@lru_cache(maxsize=2)
def epoch_order(rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The order of one pass, the same for the same seed and epoch on every machine."""
    order = list(range(rows))
    random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - an order, no secret
    return tuple(order)


def step_rows(rows: int, batch_size: int, seed: int, step: int) -> tuple[int, ...]:
    """Indices of the rows of step `step`, counted from 0 over all epochs."""
    a_pass = -(-rows // batch_size)
    epoch, within = divmod(step, a_pass)
    return epoch_order(rows, seed, epoch)[within * batch_size : (within + 1) * batch_size]


def deal(chosen: Sequence[int], units: Sequence[Unit], shares: int) -> list[list[int]]:
    """`chosen` in at most `shares` lists of about as many tokens each: the longest first, each to the shortest list.

    The rule is LPT (Graham 1969, doi:10.1137/0117039); the same ones are dealt in the same way everywhere.
    """
    dealt: list[list[int]] = [[] for _ in range(min(shares, len(chosen)))]
    held = [0] * len(dealt)
    for index in sorted(chosen, key=lambda i: (-units[i].size, i)):
        least = held.index(min(held))
        dealt[least].append(index)
        held[least] += units[index].size
    return dealt


def split(chosen: Sequence[int], units: Sequence[Unit], prefix: int, limits: Limits) -> list[list[int]]:
    """`chosen` as packs within the limits, by first fit on decreasing length; one longer than a pack stands alone."""
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for index in sorted(chosen, key=lambda i: (-units[i].size, i)):
        own, targets = units[index].size - prefix, units[index].targets
        fit = next((k for k, (tokens, left) in enumerate(room) if own <= tokens and targets <= left), None)
        if fit is None:
            packs.append([])
            room.append((limits.tokens - prefix, limits.targets))
            fit = len(packs) - 1
        packs[fit].append(index)
        room[fit] = (room[fit][0] - own, room[fit][1] - targets)
    return packs
