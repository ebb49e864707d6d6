"""What of the stack needs a person, told by the names of the alert rules (docs/runbook.md). Asks nobody.

The rules wait until a symptom lasts; here it counts at once, since a person is looking now.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Samples = dict[str, dict[str, float]]
"""Of a service: bare name of a metric -> its values by what its labels say ('' without labels)."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """A metric above `limit` (below, for `low`) means trouble. `what` is told with {value} and {at}, its labels."""

    alert: str
    metric: str
    limit: float
    what: str
    do: str
    low: bool = False


SYMPTOMS = (
    Symptom("NoriaPartitionStuck", "still_seconds", 120, "does not get past an offset of {at} for {value:.0f} s",
            "read `batch not taken` in its log and mend the database or roll back; never skip the offset"),
    Symptom("NoriaParkedLong", "parked_age_seconds", 900, "its oldest parked message waits for {value:.0f} s",
            "`noria parked list` says what it waits for"),
    Symptom("NoriaParkedDeadline", "parked_deadline_seconds", 86400, "a parked message is given up in {value:.0f} s",
            "`noria parked list` says what it waits for; it becomes a dead letter then", low=True),
    Symptom("NoriaOutboxOld", "outbox_age_seconds", 60, "its oldest event waits for Kafka for {value:.0f} s",
            "bring Kafka back; the outbox empties by itself"),
    Symptom("NoriaOutboxGrows", "outbox_waiting", 5000, "{value:.0f} events wait for Kafka",
            "look at Kafka's and the database's latency"),
    Symptom("NoriaOutboxRefused", "outbox_failed", 0, "Kafka refused {value:.0f} events for good",
            "`noria outbox list` says why; mend it, then `noria outbox retry`"),
    Symptom("NoriaSpoolOld", "spool_age_seconds", 120, "its oldest record waits for Kafka for {value:.0f} s",
            "bring Kafka back before the spool is full"),
    Symptom("NoriaJobWithoutHeartbeat", "job_heartbeat_age_seconds", 120, "a {at} job lost its worker {value:.0f} s ago",
            "start an instance; it leases the job again"),
    Symptom("NoriaJobWithoutProgress", "job_progress_age_seconds", 1800, "a {at} job has not moved for {value:.0f} s",
            "look at the child process; end it by SIGTERM if it does not work"),
    Symptom("NoriaJobRestarts", "job_attempts", 3, "a {at} job is on try {value:.0f}",
            "`noria runs` and `job goes on later` in its log say why; mend it, then `noria runs retry`"),
    Symptom("NoriaDiskFull", "disk_free_bytes", 256e6, "only {value:.0f} bytes are free on its disk",
            "make room", low=True),
    Symptom("NoriaCandidateWaits", "candidates_waiting", 0, "{value:.0f} candidates wait for a person: {at}",
            "`noria models` says why; evaluate again, promote or reject them"),
    Symptom("NoriaDeploymentFailed", "production_not_deployed", 0, "{value:.0f} promoted versions could not be deployed",
            "`noria models` says why; what served before still answers"),
    Symptom("NoriaTritonDown", "triton_up", 0.5, "Triton does not answer", "read logs/triton.log", low=True),
)  # fmt: skip


def read(text: str, service: str) -> Samples:
    """The gauges and counters in an answer to GET /metrics, with the service's prefix taken off."""
    from prometheus_client.parser import text_string_to_metric_families

    prefix = f"noria_{service}_"
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(prefix):
                at = ", ".join(str(value) for _, value in sorted(sample.labels.items()))
                found.setdefault(sample.name.removeprefix(prefix), {})[at] = sample.value
    return found


def find(
    metrics: Mapping[str, Samples],
    services: Mapping[str, Mapping[str, Any]],
    members: Mapping[str, int] | None,
    dead_letters: int | None,
) -> list[dict[str, str]]:
    """[{"alert", "where", "what", "do"}].

    `metrics` by service; `services`: readiness answers by part; `members` by consumer group, None where Kafka does not
    answer; `dead_letters` how many there are that nobody settled.
    """
    found = [*_standing(services), *_groups(members or {}), *_dead(dead_letters)]
    for service, samples in metrics.items():
        found += _of_metrics(service, samples)
    return [dict(zip(("alert", "where", "what", "do"), entry, strict=True)) for entry in found]


Entry = tuple[str, str, str, str]


def _of_metrics(service: str, samples: Samples) -> Iterator[Entry]:
    for symptom in SYMPTOMS:
        for at, value in samples.get(symptom.metric, {}).items():
            if (value < symptom.limit) if symptom.low else (value > symptom.limit):
                yield symptom.alert, service, symptom.what.format(at=at, value=value), symptom.do
    running = {
        at.removesuffix(", running") for at, n in samples.get("jobs", {}).items() if n and at.endswith(", running")
    }
    for kind, age in samples.get("job_queued_age_seconds", {}).items():
        if age > 600 and kind not in running:
            what = f"a {kind} job is queued for {age:.0f} s while none runs"
            yield "NoriaJobQueuedLong", service, what, "restart the service; do not submit the work again"


def _standing(services: Mapping[str, Mapping[str, Any]]) -> Iterator[Entry]:
    for name, health in services.items():
        checks: Mapping[str, Any] = health.get("checks") or {}
        failed = {check: entry["detail"] for check, entry in checks.items() if not entry.get("ok", True)}
        for check, detail in failed.items():
            yield "NoriaServiceNotReady", name, f"{check}: {detail}", "bring back what the check names"
        if not failed and health.get("status") != "ready":
            what = str(health.get("detail") or health.get("status"))
            yield "NoriaServiceDown", name, what, f"`noria up --detach` starts it; read logs/{name}.log"


def _groups(members: Mapping[str, int]) -> Iterator[Entry]:
    for group, count in members.items():
        if count == 0:
            do = "start the service, or read in its log why it cannot join"
            yield "NoriaGroupWithoutMembers", group, "nobody consumes for this group", do


def _dead(count: int | None) -> Iterable[Entry]:
    return (
        [("NoriaDeadLetters", "kafka", f"{count} dead letters that nobody settled", "`noria dlq list` says why")]
        if count
        else []
    )


Cells = Mapping[str, Callable[[Mapping[str, Any]], object]]
COLUMNS: Cells = {name: lambda row, name=name: row[name] for name in ("alert", "where", "what", "do")}
