"""When a dataset is frozen, and how that is told. Knows no clock and no store."""

from dataclasses import dataclass

from contracts.preparation import Freeze


@dataclass(frozen=True, slots=True)
class Pending:
    """New or changed records since the last freeze, and for how many seconds none has come."""

    changed: int
    quiet: float


def due(pending: Pending, freeze: Freeze) -> bool:
    """Enough records wait and none came for a while; twice as many wait for no quiet."""
    if pending.changed >= 2 * freeze.records:
        return True
    return pending.changed >= freeze.records and pending.quiet >= freeze.quiet.total_seconds()


def describe_next_freeze(pending: Pending, freeze: Freeze) -> str:
    """When the next dataset will be frozen, in words."""
    missing = freeze.records - pending.changed
    if missing > 0:
        return f"after {missing} more new or changed records, or on demand"
    seconds = max(0.0, freeze.quiet.total_seconds() - pending.quiet)
    return f"in {seconds:.0f} s if no more records come, or once {2 * freeze.records} wait"
