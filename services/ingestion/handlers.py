"""What ingestion does on each event: a valid record of a known project is accepted once a content, others are refused.

The topics have no mutual order, so a submission may come moments before its project's definition: it waits, bounded.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from contracts.envelope import Event, Meta
from contracts.events.feedback import ExampleReleasedV1, SignalRecordedV1
from contracts.events.ingestion import RecordAcceptedV1, RecordRefusedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid
from services.chassis.storage import projects
from services.ingestion.domain import signals
from services.ingestion.domain.policy import cleaned, hidden, is_sampled, judged
from services.ingestion.domain.validation import ValidRecord
from services.ingestion.store import CurrentRevision, Store, Submission

PATIENCE = timedelta(seconds=10)
"""How long a submission waits for its project's definition."""


def on_record_submitted(event: RecordSubmittedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Accepts or refuses the record."""
    return take(Submission(event, meta.source, meta.id), store)


def on_signal_recorded(event: SignalRecordedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """A correction or comparison of before there were examples is a record like any other."""
    try:
        submitted = signals.submitted(event)
    except RecordInvalid as error:
        identity = signals.identity(event)
        return refused(event.project, identity, error.code, str(error), (meta.source, meta.id), store)
    return () if submitted is None else take(Submission(submitted, meta.source, meta.id), store)


def on_example_released(event: ExampleReleasedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """What is learnt of feedback is a record like any other, tagged with its request."""
    try:
        submitted = signals.of_example(event)
    except RecordInvalid as error:
        return refused(event.project, event.example_id, error.code, str(error), (meta.source, meta.id), store)
    return take(Submission(submitted, meta.source, meta.id), store)


def on_project_defined(event: ProjectDefinedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """The project is known from now on; what waited for it is taken."""
    projects.on_project_defined(event, meta, store)
    return [done for waiting in store.take_waiting(event.project) for done in take(waiting, store)]


def refuse_overdue(store: Store, now: datetime) -> Iterable[Event]:
    """Refuses submissions whose project was not defined in time."""
    return [done for waiting in store.overdue(now, now + PATIENCE) for done in unknown_project(waiting, store)]


def take(submission: Submission, store: Store) -> Iterable[Event]:
    """The fate of a submission: waiting, not in the sample, refused, unchanged or accepted."""
    event = submission.submitted
    if not store.knows(event.project):
        store.wait(submission)
        return ()
    policy = store.policy(event.project)
    if not is_sampled(event.record_id, policy):
        store.count(event.project, "not_sampled")
        return ()
    try:
        event = cleaned(event, policy)
        valid = judged(event, policy)
    except RecordInvalid as error:
        cause, identity = (submission.source, submission.source_id), hidden(event.record_id, policy)
        return refused(event.project, identity, error.code, hidden(str(error), policy), cause, store)
    return accepted(event, valid, store)


def accepted(event: RecordSubmittedV1, valid: ValidRecord, store: Store) -> Iterable[Event]:
    """The record's new revision; nothing where the content is that of the current one."""
    current = store.current(event.project, event.record_id)
    if current is not None and current.fingerprint == valid.fingerprint:
        store.count(event.project, "unchanged")
        return ()
    revision = current.revision + 1 if current else 1
    store.put(event.project, event.record_id, CurrentRevision(revision, valid.fingerprint))
    return (
        RecordAcceptedV1(
            project=event.project,
            record_id=event.record_id,
            revision=revision,
            subject=event.subject,
            tags=valid.tags,
            format=valid.format,
            record=valid.record,
            digest=valid.digest,
            shape=valid.became.shape,
            sent=None if valid.became.sent is None else dict(valid.became.sent),
        ),
    )


def unknown_project(submission: Submission, store: Store) -> Iterable[Event]:
    """The refusal of a submission to a project that nobody defined."""
    event = submission.submitted
    detail = f"no project {event.project!r} is defined; define it with `noria apply` and submit again"
    cause = (submission.source, submission.source_id)
    return refused(event.project, event.record_id, "unknown_project", detail, cause, store)


def refused(
    project: str, record_id: str, reason: str, detail: str, cause: tuple[str, str], store: Store
) -> Iterable[Event]:
    """The refusal, counted."""
    store.count(project, f"refused.{reason}")
    source, source_id = cause
    return (
        RecordRefusedV1(
            project=project,
            record_id=record_id,
            reason=reason,
            detail=detail[:2000],
            source=source,
            source_id=source_id,
        ),
    )


HANDLERS: dict[type[Event], Any] = {
    RecordSubmittedV1: on_record_submitted,
    SignalRecordedV1: on_signal_recorded,
    ExampleReleasedV1: on_example_released,
    ProjectDefinedV1: on_project_defined,
}
