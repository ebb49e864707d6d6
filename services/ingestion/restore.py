"""How ingestion's own events restore its state: what was refused by the timer, and records whose submission is gone."""

from collections.abc import Iterable

from contracts.canonical import canonical, digest
from contracts.envelope import Event, Meta
from contracts.events.ingestion import RecordAcceptedV1, RecordRefusedV1
from contracts.records import canonical_record
from services.chassis.replay.restore import Restore
from services.ingestion.store import CurrentRevision, SqlStore


def on_record_refused(event: RecordRefusedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """A submission that waited for its project waits no more."""
    if event.reason == "unknown_project" and store.stop_waiting(event.source, event.source_id):
        store.count(event.project, f"refused.{event.reason}")
    return ()


def on_record_accepted(event: RecordAcceptedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The revision stands, though its submission may be older than the topic's retention."""
    current = store.current(event.project, event.record_id)
    if current is None or current.revision < event.revision:
        content, around = canonical_record(event.record), canonical([event.subject, event.tags])
        store.put(event.project, event.record_id, CurrentRevision(event.revision, digest(f"{content}\n{around}")))
    return ()


RESTORE = Restore(
    events={RecordRefusedV1: on_record_refused, RecordAcceptedV1: on_record_accepted},
    omitted={
        "part": "comes over HTTP, and no event tells of it before it is a record",
        "waiting.number": "a running number",
        "waiting.refuse_at": "when the timer first saw it",
    },
    keys={"waiting": ("source", "source_id")},
)
