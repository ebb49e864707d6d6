"""How prep's own events restore its state: the datasets that its jobs froze, and what people said of them."""

from collections.abc import Iterable

from contracts.envelope import Event, Meta
from contracts.events.prep import DatasetAnnotatedV1, DatasetFrozenV1
from services.chassis.replay.restore import Restore
from services.prep import annotations
from services.prep.store import SqlStore
from services.prep.tables import DatasetRow


def on_dataset_frozen(event: DatasetFrozenV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The dataset stands, and the project's revision was told of it."""
    if event.spec is not None:
        store.projects.learn(event.project, event.project_revision, event.spec)
    store.progress(event.project).announced = event.project_revision
    if store.dataset(event.project, event.dataset.number) is None:
        told = event.model_dump(
            mode="json", include={"counts", "drops", "kinds", "cause", "profile", "report", "segments"}
        )
        files = event.dataset.model_dump(mode="json")["files"]
        place = {"project": event.project, "number": event.dataset.number, "version": event.dataset.version}
        store.add(
            DatasetRow(**place, **told, files=files, project_revision=event.project_revision, frozen_at=meta.time)
        )
    return ()


def on_dataset_annotated(event: DatasetAnnotatedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """What people said of it stands."""
    annotations.keep(store.session, event, meta.time)
    return ()


_ORDER = "the order in which this database took changes of different partitions"
_SEGMENT = "lies in a segment once a freeze made one; the digest is compared"
_JOB = "how freezes stand at this moment, failed ones and those that found nothing new included"
RESTORE = Restore(
    events={DatasetFrozenV1: on_dataset_frozen, DatasetAnnotatedV1: on_dataset_annotated},
    omitted={
        "record.shard": _ORDER,
        "record.sequence": _ORDER,
        "record.record": _SEGMENT,
        "record.sent": _SEGMENT,
        "record.segment": _SEGMENT,
        "record.kind": "follows from the record, which is compared; of records of before it was there it is their format",
        "segment": _SEGMENT,
        "shard": _ORDER,
        "progress.frozen_positions": _ORDER,
        "progress.tried_positions": _ORDER,
        "progress.tried": _ORDER,
        "progress.seen": _ORDER,
        "progress.seen_at": "when the timer saw a change",
        "progress.freezes": _JOB,
        "progress.job": _JOB,
        "progress.failure": _JOB,
        "dataset.frozen_at": "the job's own time; the event says when it was announced",
    },
    omitted_rows={"progress": ("announced", (None,), "made by the timer; nothing was announced yet")},
)
