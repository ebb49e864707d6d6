"""Each fault is told by the name of its alert, with the place and what to do; a healthy stack is told nothing."""

from pathlib import Path
from typing import Any

import pytest

from services.chassis.observability.metrics import Metrics
from services.cli.alerts import SYMPTOMS, Symptom, find, read
from services.registry.metrics import registry_metrics
from services.serving.metrics import gateway_metrics
from services.serving.settings import ServingSettings

READY: dict[str, Any] = {"status": "ready", "checks": {"kafka": {"ok": True, "detail": ""}}}
RUNBOOK = (Path(__file__).parents[3] / "docs" / "runbook.md").read_text()


def told(
    metrics: dict[str, Any], health: dict[str, Any] = READY, letters: int | None = 0, members: int = 1
) -> list[str]:
    found = find({"prep": metrics}, {"prep": health}, {"prep.main": members}, letters)
    for entry in found:
        assert f"### {entry['alert']}\n" in RUNBOOK, entry
        assert entry["where"]
        assert entry["what"]
        assert entry["do"]
    return [entry["alert"] for entry in found]


def test_metrics_are_read_as_a_service_shows_them_with_their_labels() -> None:
    metrics = Metrics("prep")
    metrics.parked_waiting.set(3)
    metrics.jobs.labels("freeze", "running").set(2)
    metrics.dead.labels("t", "not_json").inc(4)
    found = read(metrics.text().decode(), "prep")
    assert found["parked_waiting"] == {"": 3}
    assert found["jobs"] == {"freeze, running": 2}
    assert found["dead_total"] == {"not_json, t": 4}
    assert read(metrics.text().decode(), "trainer") == {}


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda symptom: symptom.alert)
def test_symptom_is_told_beyond_its_limit_alone_and_names_the_place(symptom: Symptom) -> None:
    beyond, within = (symptom.limit - 0.4, symptom.limit + 1) if symptom.low else (symptom.limit + 1, symptom.limit)
    assert told({symptom.metric: {"somewhere": beyond}}) == [symptom.alert]
    assert told({symptom.metric: {"somewhere": within}}) == []


def test_symptoms_read_metrics_that_services_show() -> None:
    metrics = Metrics("serving")
    gateway_metrics(metrics, ServingSettings())
    registry_metrics(metrics)
    shown = metrics.text().decode()
    for symptom in SYMPTOMS:
        assert f"# TYPE noria_serving_{symptom.metric} gauge" in shown


def test_queued_job_is_told_only_where_none_of_its_kind_runs() -> None:
    waits: dict[str, Any] = {"job_queued_age_seconds": {"freeze": 900.0}}
    assert told(waits) == ["NoriaJobQueuedLong"]
    assert told({**waits, "jobs": {"freeze, running": 0.0, "freeze, done": 1.0}}) == ["NoriaJobQueuedLong"]
    assert told({**waits, "jobs": {"freeze, running": 1.0}}) == []


def test_services_groups_and_dead_letters_are_told() -> None:
    away = {"status": "not_ready", "checks": {"kafka": {"ok": False, "detail": "away"}, "database": {"ok": True}}}
    assert told({}, away) == ["NoriaServiceNotReady"]
    assert told({}, {"status": "down", "detail": "not running"}) == ["NoriaServiceDown"]
    assert told({}, members=0) == ["NoriaGroupWithoutMembers"]
    assert told({}, letters=3) == ["NoriaDeadLetters"]
    assert told({}, letters=None) == []
    assert find({}, {"prep": READY}, None, None) == []
