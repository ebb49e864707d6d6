"""The soak's verdict: what is larger than its bound is found, and the policy is one that services start with."""

import json
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest

from contracts.topics import BY_NAME, consumed_by, dead_letter_topics
from services.chassis.messaging.kafka.topics import refuse_short_inbox
from services.chassis.settings import Settings
from tests.soak import measure
from tests.soak.__main__ import broken, compared, too_little, unread
from tests.soak.bounds import MEMORY_BYTES, Flow, bounds
from tests.soak.measure import Size
from tests.soak.policy import DAYS, Policy
from tests.soak.stand import SERVICES, configuration

UPSTREAM = "upstream.record.submitted.v1"


def flow(rate: int, seconds: int) -> Flow:
    """So many submissions a second for so long, looked at once a second."""
    found = Flow()
    for second in range(seconds + 1):
        found.note(float(second), {UPSTREAM: rate * second})
    return found


def test_a_flow_counts_what_came_within_a_time() -> None:
    seen = flow(10, 100)
    assert [seen.within(UPSTREAM, seconds) for seconds in (0, 30, 100, 1000)] == [0, 300, 1000, 1000]
    assert Flow().within(UPSTREAM, 10) == 0


@pytest.mark.parametrize("minutes", [1, 20])
def test_the_policy_is_one_that_services_start_with(minutes: float) -> None:
    policy = Policy(day=minutes * 60 / DAYS)
    with patch.dict("os.environ", policy.environment()):
        settings = Settings()
        days = json.loads(policy.environment()["NORIA_TOPIC_RETENTION_DAYS"])
    consumed = [topic.name for service in SERVICES for topic in consumed_by(service)]
    refuse_short_inbox(consumed, timedelta(days=settings.inbox_days), days)
    assert settings.inbox_days * 86_400 == pytest.approx(policy.inbox * policy.day)
    assert days.keys() - {"dead_letters"} <= BY_NAME.keys()


def test_an_inbox_that_is_never_pruned_breaks_its_bound() -> None:
    policy = Policy(day=5.0)
    limits = bounds(policy, flow(1000, 1200), datasets=300)
    horizon = round(1000 * policy.seconds(policy.inbox))
    assert broken({"table ingestion.inbox": Size(horizon)}, limits) == []
    (line,) = broken({"table ingestion.inbox": Size(1_200_000)}, limits)
    assert line.startswith("table ingestion.inbox: 1200000 > ")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (f"topic {UPSTREAM}", Size(1_200_000)),
        ("table ingestion.parked", Size(1)),
        ("table prep.record", Size(100_000)),
        ("table prep.job", Size(10_000)),
        ("table feedback.request", Size(1)),
        ("memory prep", Size(1, MEMORY_BYTES + 1)),
    ],
)
def test_what_is_too_large_is_found(name: str, size: Size) -> None:
    limits = bounds(Policy(day=5.0), flow(1000, 1200), datasets=300)
    assert len(broken({name: size}, limits)) == 1
    assert broken({name: Size(0)}, limits) == []


def test_every_topic_with_a_retention_has_a_bound() -> None:
    limits = bounds(Policy(day=5.0), Flow(), datasets=0)
    assert {f"topic {name}" for name in dead_letter_topics()} <= limits.keys()


def test_a_run_that_lost_messages_to_retention_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = f'# HELP x\nnoria_ingestion_consumed_total{{topic="{UPSTREAM}"}} 90.0\nnoria_ingestion_done_total{{topic="t"}} 7.0\n'

    class Answer:
        text = shown

    class Running:
        def url(self, service: str) -> str:
            return f"http://{service}"

    monkeypatch.setattr("httpx.get", lambda *_, **__: Answer())
    stand: Any = Running()
    taken = measure.taken(stand)
    assert taken == {UPSTREAM: 90}
    assert unread(taken, {UPSTREAM: 90}) == []
    assert unread(taken, {UPSTREAM: 100}) == [f"10 messages of {UPSTREAM} were deleted before they were taken"]


def test_what_was_reached_stands_beside_what_was_meant() -> None:
    said = compared({"events taken": 5, "datasets": 3})
    assert said == "5 of 1000000 events, 3 of 300 datasets, 0 of 100 promotions"


def test_kafka_closes_its_segments_in_time_to_delete_them() -> None:
    policy = Policy(day=2.5)
    assert f"log.roll.ms={round(policy.seconds(policy.roll) * 1000)}" in configuration(policy)
    assert policy.roll < policy.messages


def test_a_run_that_did_too_little_proves_nothing() -> None:
    enough = {"events taken": 100_000, "datasets": 30, "promotions": 10, "segments": 2}
    assert too_little("sqlite", enough, 600) == []
    assert too_little("sqlite", enough | {"datasets": 29}, 600) == [
        "sqlite: 29 datasets, less than 10% of what 600 s are meant for"
    ]
    assert too_little("sqlite", enough | {"segments": 0}, 600) == ["sqlite: no record was ever put into a segment"]
    assert too_little("sqlite", {"events taken": 10_000, "datasets": 3, "segments": 1}, 60) == [
        "sqlite: 0 promotions, less than 10% of what 60 s are meant for"
    ]
