"""What each size may be, from the policy and from what was sent within its horizon. Measures nothing."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from contracts.topics import consumed_by
from tests.soak.load import POOL, PROJECTS
from tests.soak.policy import PRUNE_SECONDS, Policy
from tests.soak.stand import SERVICES

MEMORY_BYTES = 400 << 20
FEW = 100
SLACK_SECONDS = 30.0
"""For a timer that comes late, a look that takes its time, Kafka's own look for what is too old."""


@dataclass
class Flow:
    """How many messages each topic had at which moment."""

    moments: list[float] = field(default_factory=list[float])
    counts: list[Mapping[str, int]] = field(default_factory=list[Mapping[str, int]])

    def note(self, moment: float, counts: Mapping[str, int]) -> None:
        """Keeps a look."""
        self.moments.append(moment)
        self.counts.append(counts)

    def within(self, topic: str, seconds: float) -> int:
        """Messages sent since so many seconds before the last look, at most."""
        if not self.moments:
            return 0
        place = bisect_right(self.moments, self.moments[-1] - seconds) - 1
        before = self.counts[place].get(topic, 0) if place >= 0 else 0
        return self.counts[-1].get(topic, 0) - before


def bounds(policy: Policy, flow: Flow, datasets: int) -> dict[str, int]:
    """The most rows, messages or files of each name; what is not named has no bound by policy but what people write.

    `datasets`: how many were frozen, since lineage is kept for ever.
    """
    found = {f"topic {name}": _messages(policy, flow, name, days) for name, days in _retentions(policy).items()}
    for service in SERVICES:
        found |= _of_chassis(policy, flow, service, datasets)
    records = len(PROJECTS) * POOL
    requests = flow.within("serving.inference.completed.v1", policy.seconds(policy.requests) + SLACK_SECONDS)
    corrections = flow.within("feedback.signal.recorded.v1", 1e9)
    signals = flow.within("feedback.signal.recorded.v1", policy.seconds(policy.signals) + SLACK_SECONDS)
    found |= {
        "table ingestion.record": records + corrections,
        "table prep.record": records + corrections,
        "table ingestion.waiting": 0,
        "table ingestion.tally": 10 * len(PROJECTS),
        "table prep.progress": len(PROJECTS),
        "table prep.dataset": datasets,
        "table registry.model": len(PROJECTS),
        "table registry.model_version": datasets,
        "table registry.transition": 4 * datasets,
        "table feedback.request": requests,
        "table feedback.signal": signals + 50,
    }
    return found


def artifacts(policy: Policy, flow: Flow) -> int:
    """Files that may stand after a collection: of a dataset five, of its model two, of each project the newest and the served."""
    kept = policy.seconds(policy.artifacts + policy.roll + policy.grace) + SLACK_SECONDS
    return 7 * (flow.within("prep.dataset.frozen.v1", kept) + 2 * len(PROJECTS)) + FEW


def _of_chassis(policy: Policy, flow: Flow, service: str, datasets: int) -> dict[str, int]:
    within = policy.seconds(policy.inbox) + PRUNE_SECONDS + SLACK_SECONDS
    taken = sum(flow.within(topic.name, within) for topic in consumed_by(service))
    return {
        f"table {service}.inbox": taken + 1000,
        f"table {service}.outbox": 20_000,
        f"table {service}.parked": 0,
        f"table {service}.job": datasets,
        f"table {service}.lease": 10,
        f"table {service}.project_revision": len(PROJECTS),
        f"memory {service}": MEMORY_BYTES,
    }


def _messages(policy: Policy, flow: Flow, topic: str, days: float) -> int:
    return flow.within(topic, policy.seconds(days + policy.roll) + SLACK_SECONDS) + FEW


def _retentions(policy: Policy) -> dict[str, float]:
    from contracts.topics import dead_letter_topics
    from tests.soak.policy import NAMING, SHORT

    short = dict.fromkeys(SHORT, policy.messages) | dict.fromkeys(NAMING, policy.artifacts)
    return short | dict.fromkeys(dead_letter_topics(), policy.dead_letters)
