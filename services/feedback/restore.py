"""How feedback's own event restores its state: the signals that were recorded."""

from collections.abc import Iterable

from contracts.envelope import Event, Meta
from contracts.events.feedback import SignalRecordedV1
from services.chassis.replay.restore import Restore
from services.feedback.domain.signals import Signal
from services.feedback.store import Entry, SqlStore


def on_signal_recorded(event: SignalRecordedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The signal stands as recorded."""
    signal = Signal(**{name: getattr(event, name) for name in Signal.__dataclass_fields__})
    known, last = store.entry(signal.signal_id), store.last_about(signal)
    number = known.number if known else last.number + 1 if last else 1
    store.put(Entry(signal, meta.time, "recorded", event.project, event.record_id, number=number))
    return ()


RESTORE = Restore(
    events={SignalRecordedV1: on_signal_recorded},
    omitted={
        "signal.received_at": "when it came in; its event says when it was recorded",
        "signal.number": "counts signals that were refused too",
    },
    omitted_rows={"signal": ("status", ("waiting", "refused"), "what a person said is in no event before it counts")},
)
