"""What prep does on each event: it keeps the record. A timer or a person asks for a freeze; a job does it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from contracts.envelope import Event, Meta
from contracts.events.ingestion import RecordAcceptedV1
from contracts.events.prep import DatasetFrozenV1
from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from contracts.types import ArtifactRef, DatasetRef
from services.chassis.jobs.job import Job
from services.chassis.jobs.queue import Failure
from services.chassis.storage.projects import on_project_defined
from services.prep.domain.policy import Pending, due
from services.prep.domain.positions import Positions, merge_max, total
from services.prep.store import Store
from services.prep.tables import DatasetRow, ProgressRow

FREEZE = "freeze"
"""The kind of the job."""


def on_record_accepted(event: RecordAcceptedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Keeps the record's revision."""
    store.put(event, meta.time)
    return ()


def freeze_due(store: Store, now: datetime) -> Iterable[Event]:
    """Asks for a freeze of every project whose policy says so. Quiet is measured from when a change was first seen here."""
    for progress, positions in store.unfrozen():
        if progress.seen != total(positions):
            progress.seen, progress.seen_at = total(positions), now
        known = store.projects.current(progress.project)
        if known is None or store.projects.is_retired(progress.project):
            continue
        revision, spec = known
        freeze = spec.prep.freeze
        changed = store.changed(progress.project, progress.tried_positions, 2 * freeze.records)
        if due(Pending(changed, quiet(progress, positions, now)), freeze):
            ask(progress, positions, revision, "policy", store)
    return ()


def quiet(progress: ProgressRow, positions: Positions, now: datetime) -> float:
    """Seconds without a change."""
    if progress.seen_at is None or progress.seen != total(positions):
        return 0.0
    return (now - progress.seen_at).total_seconds()


def freeze_now(project: str, revision: str, store: Store) -> str | DatasetRow:
    """The job of a freeze on demand, or the newest dataset where nothing has changed since: what failed between is made good."""
    progress = store.progress(project)
    if progress.job is not None:
        store.jobs.retry_now(progress.job)
        return progress.job
    newest, positions = store.newest(project), store.positions(project)
    if newest is not None and progress.announced == revision and positions == progress.frozen_positions:
        progress.failure = None
        return newest
    return ask(progress, positions, revision, "on_demand", store)


def ask(progress: ProgressRow, positions: Positions, revision: str, cause: str, store: Store) -> str:
    """Records the job of a freeze and gives its id."""
    progress.freezes += 1
    job = f"freeze-{progress.project}-{progress.freezes}"
    newest = store.newest(progress.project)
    spec = {
        "project": progress.project,
        "revision": revision,
        "cause": cause,
        "positions": positions,
        "newest": newest.version if newest else None,
    }
    store.jobs.enqueue(FREEZE, job, spec, project=progress.project)
    progress.job = job
    return job


def on_freeze_done(store: Store, job: Job, result: dict[str, Any]) -> Iterable[Event]:
    """Announces the dataset. The newest version again is no new dataset: it is announced only to a changed project."""
    revision = job.spec["revision"]
    progress = store.progress(job.spec["project"])
    spec = store.projects.at(progress.project, revision)
    same_project = progress.announced == revision
    progress.job, progress.failure = None, None
    progress.frozen_positions = merge_max(progress.frozen_positions, result["through"].items())
    note_tried(progress, result["through"])
    progress.announced = revision
    compacted = result.get("segments", {"made": (), "gone": ()})  # a job of before there were any has none
    segments = store.compact(progress.project, compacted["made"], compacted["gone"])
    newest = store.newest(progress.project)
    if newest is not None and newest.version == result["version"]:
        return () if same_project else (frozen(newest, revision, job.spec["cause"], spec),)
    number = newest.number + 1 if newest else 1
    values = {name: result[name] for name in ("version", "counts", "drops", "files", "profile", "report")}
    dataset = DatasetRow(
        project=progress.project,
        number=number,
        project_revision=revision,
        cause=job.spec["cause"],
        frozen_at=datetime.fromisoformat(result["frozen_at"]),
        segments=segments,
        kinds=result.get("kinds"),  # a job of before they were counted has none
        **values,
    )
    store.add(dataset)
    return (frozen(dataset, revision, dataset.cause, spec),)


def on_freeze_failed(store: Store, job: Job, failure: Failure) -> Iterable[Event]:
    """Notes why, where people look. It is tried again when enough new records came, or on demand."""
    progress = store.progress(job.spec["project"])
    progress.job = None
    note_tried(progress, job.spec.get("positions", {}))  # a job of before there were any names none
    asked_at = job.created_at.isoformat()
    progress.failure = {"code": failure.code, "detail": failure.detail, "job": job.id, "asked_at": asked_at}
    return ()


def note_tried(progress: ProgressRow, positions: Positions) -> None:
    """Up to these positions a freeze was tried."""
    progress.tried_positions = merge_max(progress.tried_positions, positions.items())
    progress.tried = total(progress.tried_positions)


def frozen(dataset: DatasetRow, revision: str, cause: str, spec: ProjectSpec | None) -> DatasetFrozenV1:
    """The event that announces a dataset to a revision of its project."""
    return DatasetFrozenV1(
        project=dataset.project,
        project_revision=revision,
        dataset=DatasetRef(
            project=dataset.project,
            version=dataset.version,
            number=dataset.number,
            files={name: ArtifactRef.model_validate(ref) for name, ref in dataset.files.items()},
        ),
        counts=dataset.counts,
        drops=dataset.drops,
        kinds=dataset.kinds,
        cause=cause,
        profile=ArtifactRef.model_validate(dataset.profile),
        report=ArtifactRef.model_validate(dataset.report),
        spec=spec,
        segments=None if dataset.segments is None else tuple(dataset.segments),
    )


HANDLERS: dict[type[Event], Any] = {RecordAcceptedV1: on_record_accepted, ProjectDefinedV1: on_project_defined}
