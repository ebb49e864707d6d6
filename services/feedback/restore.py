"""How feedback's own events restore its state: the signals that were recorded, and the examples made of them."""

from collections.abc import Iterable
from dataclasses import fields

from contracts.envelope import Event, Meta
from contracts.events.feedback import ExampleHeldV1, ExampleRejectedV1, ExampleReleasedV1, SignalRecordedV1
from contracts.learning import Learning
from services.chassis.replay.restore import Restore
from services.feedback.domain.examples import Example, opinions_on
from services.feedback.domain.normal_form import user_digest
from services.feedback.domain.signals import Signal, about
from services.feedback.examples_store import Kept, Place
from services.feedback.store import Entry, SqlStore


def on_signal_recorded(event: SignalRecordedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The signal stands as recorded."""
    signal = Signal(**{name: getattr(event, name) for name in Signal.__dataclass_fields__})
    known, last = store.entry(signal.signal_id), store.last_about(signal)
    number = known.number if known else last.number + 1 if last else 1
    store.put(Entry(signal, meta.time, "recorded", event.project, event.record_id, number=number))
    if event.question is not None and event.answer is not None:
        known_policy = store.projects.current(event.project)
        learning = known_policy[1].learn if known_policy else Learning()
        place = Place(event.project, event.question, user_digest(event.project, event.user), meta.time)
        store.examples.opine(about(signal), opinions_on(signal, event.answer, learning), place)
    return ()


def on_example_released(event: ExampleReleasedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The example stands as released."""
    store.examples.put(Kept(_example(event), "released", by=event.by))
    return ()


def on_example_held(event: ExampleHeldV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The example waits."""
    store.examples.put(Kept(_example(event), "held", event.reason, event.detail, event.until))
    return ()


def on_example_rejected(event: ExampleRejectedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The example stands as rejected."""
    if (known := store.examples.get(event.example_id)) is not None:
        store.examples.put(Kept(known.example, "rejected", by=event.by, note=event.note))
    return ()


def _example(event: ExampleReleasedV1 | ExampleHeldV1) -> Example:
    return Example(**{field.name: getattr(event, field.name) for field in fields(Example)})


RESTORE = Restore(
    events={
        SignalRecordedV1: on_signal_recorded,
        ExampleReleasedV1: on_example_released,
        ExampleHeldV1: on_example_held,
        ExampleRejectedV1: on_example_rejected,
    },
    omitted={
        "signal.received_at": "when it came in; its event says when it was recorded",
        "signal.number": "counts signals that were refused too",
        "opinion.said_at": "when its signal came in; the event says when it was recorded",
    },
    omitted_rows={"signal": ("status", ("waiting", "refused"), "what a person said is in no event before it counts")},
)
