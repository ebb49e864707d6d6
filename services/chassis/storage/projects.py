"""What each project wants, as the events said: remembered by revision. Decides nothing."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import func, text, update
from sqlmodel import Session, col, select

from contracts.envelope import Event, Meta
from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from services.chassis.errors import Park
from services.chassis.storage.tables import FairShare, ProjectRevision

NEWEST_FIRST = (col(ProjectRevision.sequence).desc(), col(ProjectRevision.defined_at).desc())
"""By sequence; definitions of before there was one stand behind, by their time. As the index `project_revision_newest`."""

_NAMES = """
WITH RECURSIVE found (project) AS (
    SELECT min(project) FROM project_revision
    UNION ALL
    SELECT (SELECT min(later.project) FROM project_revision AS later WHERE later.project > found.project)
    FROM found WHERE found.project IS NOT NULL
) SELECT project FROM found WHERE EXISTS (
    SELECT 1 FROM project_revision AS own WHERE own.project = found.project AND own.defined_at IS NOT NULL
)
"""
"""One step of the index a project, however many revisions each has: a loose index scan, which neither database does by itself."""


class Projects(Protocol):
    """The projects a service knows."""

    def current(self, project: str) -> tuple[str, ProjectSpec] | None:
        """(revision, specification) in force, or None where the project is unknown."""
        ...

    def at(self, project: str, revision: str) -> ProjectSpec | None:
        """The specification of a revision, or None."""
        ...

    def is_retired(self, project: str) -> bool:
        """Whether the project was taken out of service."""
        ...

    def remember(self, event: ProjectDefinedV1, defined_at: datetime) -> None:
        """Keeps the event's specification; a revision defined again is in force again."""
        ...

    def learn(self, project: str, revision: str, spec: ProjectSpec) -> None:
        """Keeps a revision that an event brought; it is in force nowhere."""
        ...

    def next_sequence(self, project: str, now: datetime) -> int:
        """The sequence of a definition made now, for whoever holds the project's lock."""
        ...


class ProjectRevisions:
    """`Projects` in the service's database."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def current(self, project: str) -> tuple[str, ProjectSpec] | None:
        """(revision, specification) in force, or None where the project is unknown."""
        row = self._newest(project)
        return None if row is None else (row.revision, ProjectSpec.model_validate_json(row.spec))

    def is_retired(self, project: str) -> bool:
        """Whether the project was taken out of service."""
        row = self._newest(project)
        return row is not None and row.retired_after is not None

    def at(self, project: str, revision: str) -> ProjectSpec | None:
        """The specification of a revision, or None."""
        row = self._session.get(ProjectRevision, (project, revision))
        return None if row is None else ProjectSpec.model_validate_json(row.spec)

    def names(self) -> list[str]:
        """The known projects in alphabetical order."""
        rows = self._session.connection().execute(text(_NAMES)).scalars()
        return sorted(rows)

    def remember(self, event: ProjectDefinedV1, defined_at: datetime) -> None:
        """Keeps the event's specification; a revision defined again is in force again.

        An event that comes late, behind a later definition, changes nothing that is in force.
        """
        known = self._session.get(ProjectRevision, (event.project, event.revision))
        if known is not None and _place(known.sequence, known.defined_at) > _place(event.sequence or 0, defined_at):
            return
        row = ProjectRevision(
            project=event.project,
            revision=event.revision,
            spec=event.spec.model_dump_json(),
            defined_at=defined_at,
            sequence=event.sequence or 0,
            retired_after=event.retired_after,
        )
        self._session.merge(row)
        self._session.flush()
        self._weigh(event.project)

    def learn(self, project: str, revision: str, spec: ProjectSpec) -> None:
        """Keeps a revision that an event brought; it is in force nowhere."""
        if self._session.get(ProjectRevision, (project, revision)) is None:
            self._session.add(ProjectRevision(project=project, revision=revision, spec=spec.model_dump_json()))
            self._session.flush()

    def next_sequence(self, project: str, now: datetime) -> int:
        """The sequence of a definition made now, for whoever holds the project's lock.

        More than the last one, whatever the clock says, and no less than the milliseconds since 1970, so that a registry
        restored from a backup gives none twice: a hybrid logical clock (Kulkarni and others, OPODIS 2014).
        """
        last = select(func.max(ProjectRevision.sequence)).where(ProjectRevision.project == project)
        return max((self._session.exec(last).one() or 0) + 1, int(now.timestamp() * 1000))

    def _newest(self, project: str) -> ProjectRevision | None:
        defined = (ProjectRevision.project == project, col(ProjectRevision.defined_at).is_not(None))
        return self._session.exec(select(ProjectRevision).where(*defined).order_by(*NEWEST_FIRST).limit(1)).first()

    def _weigh(self, project: str) -> None:
        current = self.current(project)
        priority = current[1].priority if current else "normal"
        of_project = update(FairShare).where(col(FairShare.project) == project)
        self._session.connection().execute(of_project.values(priority=priority))


def _place(sequence: int, at: datetime | None) -> tuple[int, datetime]:
    return sequence, at or datetime.min.replace(tzinfo=UTC)


class HasProjects(Protocol):
    """A store with the projects."""

    @property
    def projects(self) -> Projects:
        """The projects a service knows."""
        ...


def on_project_defined(event: ProjectDefinedV1, meta: Meta, store: HasProjects) -> Iterable[Event]:
    """Remembers what the project wants."""
    store.projects.remember(event, meta.time)
    return ()


class NamesRevision(Protocol):
    """An event that refers to a revision of its project, and may bring it along."""

    @property
    def project(self) -> str: ...  # noqa: D102
    @property
    def project_revision(self) -> str: ...  # noqa: D102
    @property
    def spec(self) -> ProjectSpec | None: ...  # noqa: D102


def specification(event: NamesRevision, store: HasProjects) -> ProjectSpec:
    """What the revision says that the event names: as it was defined, or else as the event brings it.

    The topic of definitions is compacted: whoever comes late never sees the older ones there.

    Raises:
        Park: `unknown_project`, where neither is there.
    """
    known = store.projects.at(event.project, event.project_revision)
    if known is not None:
        return known
    if event.spec is None:
        revision = event.project_revision[:12]
        raise Park("unknown_project", f"revision {revision} of {event.project!r} has not arrived yet")
    store.projects.learn(event.project, event.project_revision, event.spec)
    return event.spec
