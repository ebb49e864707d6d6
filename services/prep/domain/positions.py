"""How far a project's changes have come: the newest sequence of each shard, as the offsets of a topic's partitions."""

from collections.abc import Iterable, Mapping

Positions = dict[str, int]
"""Shard -> newest sequence; a shard that is not named stands at 0. Text keys, since it is kept as JSON."""


def merge_max(positions: Mapping[str, int], others: Iterable[tuple[str, int]]) -> Positions:
    """Each shard's newest sequence of both."""
    result = dict(positions)
    for shard, sequence in others:
        result[shard] = max(result.get(shard, 0), sequence)
    return result


def total(positions: Mapping[str, int]) -> int:
    """How many changes there were. Of two positions of a project the later one has the greater total, or is equal."""
    return sum(positions.values())
