"""What feedback does: a signal is recorded once its request is known, and refused when that never comes.

The last word counts: what is said again after something else was said is a signal of its own. Said twice in a row it is
a repeat, as a client sends it whose first answer was lost.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from contracts.envelope import Event, Meta
from contracts.events.feedback import SignalRecordedV1, SignalRefusedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.serving import InferenceCompletedV1
from contracts.records import RecordInvalid
from services.chassis.storage.projects import on_project_defined
from services.feedback.domain.normal_form import answer_digest, question_digest
from services.feedback.domain.records import Request, as_record, record_id
from services.feedback.domain.signals import Feedback, Signal, identity, says_the_same, signals
from services.feedback.learning import learn, learn_teacher
from services.feedback.store import Entry, Store

AT_ONCE = 200
UNKNOWN = "unknown_request"
CONVERSATION = "conversation"
"""The key of a request's `metadata` under which a client names its conversation."""


def on_inference_completed(event: InferenceCompletedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Keeps the request, and settles the feedback that was quicker than its record.

    One that its client forbade to keep is none that feedback can be about: that feedback is refused as an unknown one's.
    """
    if not event.stored:
        return ()
    request = Request(
        request_id=event.request_id,
        project=event.project,
        model=event.model,
        messages=event.messages,
        prompt=event.prompt,
        output=event.output,
        prompt_variables=event.prompt_variables,
        teacher=event.teacher.model if event.teacher else None,
        conversation=(event.metadata or {}).get(CONVERSATION),
    )
    store.remember(request, meta.time)
    taught = learn_teacher(request, event.user, meta.time, store) if event.status == "ok" else []
    return [*taught, *_record_waiting(request, store)]


def give(feedback: Feedback, now: datetime, store: Store) -> tuple[list[Entry], list[Event]]:
    """Takes feedback: what became of its signals, and the events. A repeated signal changes nothing."""
    request = store.request(feedback.request_id)
    entries: list[Entry] = []
    events: list[Event] = _record_waiting(request, store) if request is not None else []
    for signal in signals(feedback):
        entry, new = _entry(signal, now, request, store)
        if new:
            store.put(entry)
            if request is not None:
                entry, further = _record(entry, request, store)
                events += further
        entries.append(entry)
    return entries, events


def _entry(signal: Signal, now: datetime, request: Request | None, store: Store) -> tuple[Entry, bool]:
    """The signal's entry, and whether it is a new one; what says the same as the last word is no new one."""
    last = store.last_about(signal)
    if last is None:
        return Entry(signal, now), True
    if says_the_same(last.signal, signal):
        unknown = last.reason == UNKNOWN and request is not None
        return (Entry(last.signal, now, number=last.number), True) if unknown else (last, False)
    number = last.number + 1
    if store.entry(signal.signal_id) is not None:
        signal = replace(signal, signal_id=identity(signal, number))
    return Entry(signal, now, number=number), True


def _record_waiting(request: Request, store: Store) -> list[Event]:
    """Records what waits for a request, before anything newer is: else an earlier word would come last."""
    return [event for entry in store.waiting_for(request.request_id) for event in _record(entry, request, store)[1]]


def settle_waiting(deadline: timedelta, store: Store, now: datetime) -> Iterable[Event]:
    """Refuses what has waited longer than `deadline` for its request, and records what need not have waited.

    On PostgreSQL a request and its feedback may come in transactions that do not see each other: a batch of requests
    takes up to a second after a restart. Then the feedback waits though its request is there.
    """
    detail = f"no answer with this request id arrived within {deadline.total_seconds():g} s"

    def outcome(entry: Entry) -> list[Event]:
        request = store.request(entry.signal.request_id)
        return (_record(entry, request, store) if request else _refuse(entry, "", UNKNOWN, detail, store))[1]

    events = [event for entry in store.waiting_with_request(AT_ONCE) for event in outcome(entry)]
    overdue = store.waiting_since(now - deadline, AT_ONCE)
    return [*events, *(event for entry in overdue for event in outcome(entry))]


def _record(entry: Entry, request: Request, store: Store) -> tuple[Entry, list[Event]]:
    try:
        record = as_record(entry.signal, request)
    except RecordInvalid as error:
        return _refuse(entry, request.project, error.code, str(error), store)
    name = record_id(entry.signal)
    recorded = replace(entry, status="recorded", project=request.project, record_id=name, reason=None, detail=None)
    store.put(recorded)
    said = asdict(entry.signal)
    event = SignalRecordedV1(
        project=request.project,
        model=request.model,
        record_id=name,
        record=record,
        prompt_variables=None if record is None or not request.prompt_variables else dict(request.prompt_variables),
        by_policy=True,
        question=question_digest(request),
        answer=answer_digest(request.output),
        teacher=request.teacher,
        **said,
    )
    return recorded, [event, *learn(entry.signal, request, entry.received_at, store)]


def _refuse(entry: Entry, project: str, reason: str, detail: str, store: Store) -> tuple[Entry, list[Event]]:
    refused = replace(entry, status="refused", project=project or None, reason=reason, detail=detail)
    store.put(refused)
    ids = {"signal_id": entry.signal.signal_id, "request_id": entry.signal.request_id}
    return refused, [SignalRefusedV1(project=project, reason=reason, detail=detail, **ids)]


HANDLERS: Mapping[type[Event], Callable[[Any, Meta, Any], Iterable[Event]]] = {
    InferenceCompletedV1: on_inference_completed,
    ProjectDefinedV1: on_project_defined,
}
