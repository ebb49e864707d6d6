"""Shows what the last collection of artifacts found, as the store holds word of it. Collects nothing."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import Gauge

from services.chassis.context import Context
from services.chassis.observability.metrics import Metrics
from services.chassis.retention.sweep import last_record

LOOK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class CollectionMetrics:
    """Gauges of the last collection that deleted; artifacts by kind: named, young, removed."""

    objects: Gauge
    bytes: Gauge
    last: Gauge


def collection_gauges(metrics: Metrics) -> CollectionMetrics:
    """The gauges in the registry's metrics, under noria_registry_."""
    return CollectionMetrics(
        objects=metrics.gauge("artifact_objects", "Artifacts that the last collection met", "kind"),
        bytes=metrics.gauge("artifact_bytes", "Bytes of artifacts that the last collection met", "kind"),
        last=metrics.gauge("artifact_collected_timestamp_seconds", "When artifacts were last collected; 0: never"),
    )


def show(gauges: CollectionMetrics, said: Mapping[str, Any] | None) -> None:
    """Sets the gauges to the word of a collection."""
    if said is None:
        return
    for kind in ("named", "young", "removed"):
        gauges.objects.labels(kind).set(said[kind]["objects"])
        gauges.bytes.labels(kind).set(said[kind]["bytes"])
    gauges.last.set(datetime.fromisoformat(said["at"]).timestamp())


async def keep_showing(ctx: Context[Any]) -> None:
    """Looks once a minute until cancelled; while the store cannot be read the gauges keep what they were."""
    gauges = collection_gauges(ctx.metrics)
    while True:
        try:
            show(gauges, await asyncio.to_thread(last_record, ctx.artifacts))
        except Exception as error:
            ctx.log.warning("the last collection of artifacts cannot be read", detail=str(error)[:300])
        await asyncio.sleep(LOOK_SECONDS)
