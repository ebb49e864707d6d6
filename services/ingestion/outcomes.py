"""What became of a request's spans and log records: for its answer, the log and the metric."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid
from services.chassis.context import Context
from services.chassis.observability.metrics import Metrics


@dataclass(slots=True)
class Outcome:
    """Events to send by project, and how many spans or log records are no calls, wait, or were refused, by reason."""

    events: dict[str, list[RecordSubmittedV1]] = field(default_factory=dict[str, list[RecordSubmittedV1]])
    joined: int = 0
    """Records of calls whose parts are together now; they are sent already."""
    ignored: int = 0
    waiting: int = 0
    """Log records of calls whose rest did not come yet."""
    repeated: int = 0
    """Log records of calls that are kept already."""
    refused: Counter[str] = field(default_factory=Counter[str])
    lost: Counter[str] = field(default_factory=Counter[str])
    """Log records of earlier requests that were given up for want of room."""
    first: str = ""

    def refuse(self, trace_id: str, span_id: str, items: int, error: RecordInvalid) -> None:
        """Spans or log records that give no record, or not all of its records."""
        self.refused[error.code] += items
        self.first = self.first or f"trace {trace_id} span {span_id}: {error.code}: {error}"

    def add(self, joined: "Outcome") -> None:
        """What became of the same request's parts of calls."""
        self.joined, self.waiting, self.repeated = joined.joined, joined.waiting, joined.repeated
        self.refused += joined.refused
        self.lost, self.first = joined.lost, self.first or joined.first

    @property
    def counts(self) -> dict[str, int]:
        """Records that are sent on, and what else became of spans and log records; without what did not occur."""
        taken = sum(map(len, self.events.values())) + self.joined
        counts = {"taken": taken, "ignored": self.ignored, "waiting": self.waiting, "repeated": self.repeated}
        return {name: n for name, n in (counts | self.refused).items() if n}

    @property
    def message(self) -> str:
        """The refusals by reason, and the first one in full."""
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(self.refused.items()))
        return f"{counts}; first: {self.first}"[:1000] if counts else ""


class OtlpMetrics:
    """What the entrance counts, and what gives parts up."""

    def __init__(self, metrics: Metrics) -> None:
        self.outcomes = metrics.counter(
            "otlp_total", "Spans and log records over OTLP, by what became of them", "outcome"
        )


_MADE: WeakKeyDictionary[Metrics, OtlpMetrics] = WeakKeyDictionary()
"""A name is registered once."""


def count(ctx: Context[Any], outcomes: Mapping[str, int]) -> None:
    """Counts in the service's metric."""
    if ctx.metrics not in _MADE:
        _MADE[ctx.metrics] = OtlpMetrics(ctx.metrics)
    told = _MADE[ctx.metrics]
    for name, n in outcomes.items():
        told.outcomes.labels(name).inc(n)
