"""What a service says for its rebuilding from the log: how its own events restore its state, and what no event tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from contracts.envelope import Event
from services.chassis.messaging.messages import Handler


@dataclass(frozen=True)
class Restore:
    """Used by services.chassis.replay.rebuild alone.

    `events`: for each of the service's own events that tells of what it did without a message (jobs, timers, HTTP), a
    function of a handler's shape that brings the state there; it emits nothing and is harmless where that is done.
    """

    events: Mapping[type[Event], Handler] = field(default_factory=dict[type[Event], Handler])
    omitted: Mapping[str, str] = field(default_factory=dict[str, str])
    """What is not compared, 'table', 'table.column' or 'table.column.key' of a JSON object, and why."""
    omitted_rows: Mapping[str, tuple[str, tuple[str | None, ...], str]] = field(
        default_factory=dict[str, tuple[str, tuple[str | None, ...], str]]
    )
    """table -> (column, values of the rows that are not compared, why)."""
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """table -> the columns that tell its rows apart, where its primary key is a running number."""
