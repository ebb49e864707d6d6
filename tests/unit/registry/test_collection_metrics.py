"""The registry's gauges say what the last collection found, and that none was made."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.chassis.observability.metrics import Metrics
from services.chassis.retention.sweep import last_record, packed, record, sweep
from services.chassis.storage.artifacts import ArtifactStore
from services.registry.collection_metrics import collection_gauges, show


def test_gauges_show_the_last_collection(tmp_path: Path) -> None:
    metrics, at = Metrics("registry"), datetime(2026, 1, 31, tzinfo=UTC)
    gauges = collection_gauges(metrics)
    show(gauges, None)
    assert "noria_registry_artifact_collected_timestamp_seconds 0.0" in metrics.text().decode()
    store = ArtifactStore((tmp_path / "store").as_uri(), tmp_path / "cache")
    named = store.put_bytes(b"named")
    store.put_bytes(b"garbage")
    done = sweep(store, packed({named.sha256}), datetime.now(UTC) + timedelta(days=1), remove=True)
    record(store, {"at": at.isoformat(), **done.document()})
    show(gauges, last_record(store))
    text = metrics.text().decode()
    for line in ('bytes{kind="named"} 5.0', 'bytes{kind="removed"} 7.0', 'objects{kind="removed"} 1.0'):
        assert f"noria_registry_artifact_{line}" in text
    assert metrics.registry.get_sample_value("noria_registry_artifact_collected_timestamp_seconds") == at.timestamp()
