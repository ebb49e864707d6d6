"""What each size may be, from the policy and from what was sent within its horizon. Measures nothing."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from contracts.topics import BY_NAME, consumed_by, dead_letter_topics
from services.prep.domain.compaction import MANY_SMALL
from tests.soak.load import POOL, PROJECTS
from tests.soak.policy import NAMING, PRUNE_SECONDS, SHORT, Policy
from tests.soak.stand import SERVICES

MEMORY_BYTES = 400 << 20
FEW = 100
UNDER_WAY = 50
"""Freezes asked for at a time, and those that ended without a dataset."""
FOR_EVER = 1e9
SHARDS = 4
"""Of a counter: as many as transactions count at a time, here those of one instance's batches and of its retries."""
SEGMENTS = MANY_SMALL + 1
"""Of a project, whose records altogether are fewer than one holds: once there are so many, they are put together."""
ROW_BYTES = 2_000
"""Of a row with its indexes, and as much again that is deleted and not yet reused."""
SPARE_BYTES = 100 << 20
"""Of write-ahead logs, of an empty PostgreSQL, of Kafka's own topics."""
BY_BYTES = ("memory", "bytes", "folder cache", "folder kafka", "folder logs", "folder state")
"""What is held against its bound by bytes; everything else by its number."""


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
    """The most rows, messages, files or bytes (`BY_BYTES`) of each name.

    `datasets`: how many were frozen, since lineage is kept for ever.
    """
    found = _topics(policy, flow)
    for service in SERVICES:
        found |= _of_chassis(policy, flow, service)
    records = len(PROJECTS) * POOL
    requests = flow.within("serving.inference.completed.v1", policy.seconds(policy.requests) + policy.slack)
    corrections = flow.within("feedback.signal.recorded.v1", FOR_EVER)
    ended = ("feedback.signal.recorded.v1", "feedback.signal.refused.v1")
    kept = policy.seconds(policy.signals + policy.waiting) + policy.slack
    signals = sum(flow.within(topic, kept) for topic in ended)
    found |= {
        "table ingestion.record": records + corrections,
        "table prep.record": records + corrections,
        "table ingestion.waiting": 0,
        "table ingestion.part": 0,
        "table ingestion.tally": 10 * len(PROJECTS),
        "table prep.progress": len(PROJECTS),
        "table prep.shard": SHARDS * len(PROJECTS),
        "table prep.dataset": datasets,
        "table prep.annotation": 0,
        "table prep.dataset_tag": 0,
        "table prep.segment": SEGMENTS * len(PROJECTS),
        "table registry.model": len(PROJECTS),
        "table registry.model_version": datasets,
        "table registry.promotion": datasets,
        "table registry.transition": 4 * datasets,
        "table registry.prompt": len(PROJECTS),
        "table serving.prompt": len(PROJECTS),
        "table feedback.request": requests,
        "table feedback.signal": signals + 50,
        "table feedback.example": signals + 50,
        "table feedback.opinion": 2 * signals + 100,
    }
    return found | _bytes(found)


def _bytes(counts: Mapping[str, int]) -> dict[str, int]:
    rows = sum(limit for name, limit in counts.items() if name.startswith("table "))
    messages = sum(limit for name, limit in counts.items() if name.startswith("topic "))
    databases = ROW_BYTES * rows + SPARE_BYTES
    return {
        "bytes of databases": databases,
        "folder state": databases,
        "folder cache": 0,
        "folder logs": 1 << 20,
        "folder kafka": ROW_BYTES * messages + SPARE_BYTES,
    }


def artifacts(policy: Policy, flow: Flow) -> int:
    """Files that may stand after a collection: of a dataset six with a segment, of its model two, of each project the newest
    and the served, and its segments.
    """
    kept = policy.seconds(policy.artifacts + policy.roll + policy.grace) + policy.slack
    return 8 * (flow.within("prep.dataset.frozen.v1", kept) + 2 * len(PROJECTS)) + SEGMENTS * len(PROJECTS) + FEW


def _of_chassis(policy: Policy, flow: Flow, service: str) -> dict[str, int]:
    within = policy.seconds(policy.inbox) + PRUNE_SECONDS + policy.slack
    ended = policy.seconds(policy.jobs) + PRUNE_SECONDS + policy.slack
    taken = sum(flow.within(topic.name, within) for topic in consumed_by(service))
    return {
        f"table {service}.inbox": taken + 200,
        f"table {service}.outbox": 20_000,
        f"table {service}.parked": 0,
        f"table {service}.job": flow.within("prep.dataset.frozen.v1", ended) + UNDER_WAY,
        f"table {service}.lease": 10,
        f"table {service}.project_revision": len(PROJECTS),
        f"table {service}.fair_share": len(PROJECTS),
        f"table {service}.idempotency_key": 0,
        f"table {service}.alembic_version": 2,
        f"table {service}.migrated": 1,
        f"memory {service}": MEMORY_BYTES,
    }


def _topics(policy: Policy, flow: Flow) -> dict[str, int]:
    """Of every topic what was sent within its retention; without one, of some events, what was ever sent in all."""
    short = dict.fromkeys(SHORT, policy.messages) | dict.fromkeys(NAMING, policy.artifacts)
    days = short | dict.fromkeys(dead_letter_topics(), policy.dead_letters)
    kept = {name: flow.within(name, policy.seconds(of + policy.roll) + policy.slack) + FEW for name, of in days.items()}
    letters = sum(flow.within(name, FOR_EVER) for name in dead_letter_topics())
    # A resolution is a message and its transaction's marker.
    for_ever = {"console.letter.settled.v1": 2 * letters + FEW}
    found = dict.fromkeys(BY_NAME, FEW) | for_ever | kept
    return {f"topic {name}": limit for name, limit in found.items()}
