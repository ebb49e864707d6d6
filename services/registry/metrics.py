"""The registry's own metrics: what waits for a person."""

import asyncio
from dataclasses import dataclass

from prometheus_client import Gauge

from services.chassis.context import Context
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.database import log_failure
from services.registry.store import Store

LOOK_SECONDS = 5.0
REASONS = {"failed": "evaluation_failed", "outdated": "champion_changed", "done": "approval"}
"""How a candidate's evaluation stands -> what it waits for a person for; one that is measured waits for nobody."""


@dataclass(frozen=True, slots=True)
class RegistryMetrics:
    """No project is a label: their number has no bound."""

    candidates: Gauge
    undeployed: Gauge


def registry_metrics(metrics: Metrics) -> RegistryMetrics:
    """The metrics in the service's registry, under noria_registry_."""
    return RegistryMetrics(
        candidates=metrics.gauge("candidates_waiting", "Candidates that wait for a person", "why"),
        undeployed=metrics.gauge("production_not_deployed", "Versions wanted in production that serving cannot deploy"),
    )


async def keep_counting(ctx: Context[Store]) -> None:
    """Shows the metrics until cancelled."""
    metrics = registry_metrics(ctx.metrics)
    while True:
        try:
            open_, undeployed = await ctx.read(lambda store: (store.open_candidates(), store.undeployed()))
            for status, why in REASONS.items():
                metrics.candidates.labels(why).set(open_.get(status, 0))
            metrics.undeployed.set(undeployed)
        except Exception as error:  # a database that is away must not end the service: the next look tells
            log_failure(ctx.log, "candidates not counted", error)
        await asyncio.sleep(LOOK_SECONDS)
