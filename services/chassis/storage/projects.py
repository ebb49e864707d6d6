"""What each project wants, as the events said: remembered by revision. Decides nothing."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from sqlalchemy import update
from sqlmodel import Session, col, select

from contracts.envelope import Event, Meta
from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from services.chassis.storage.tables import FairShare, ProjectRevision


class Projects(Protocol):
    """The projects a service knows."""

    def current(self, project: str) -> tuple[str, ProjectSpec] | None:
        """(revision, specification) in force, or None where the project is unknown."""
        ...

    def at(self, project: str, revision: str) -> ProjectSpec | None:
        """The specification of a revision, or None."""
        ...

    def remember(self, event: ProjectDefinedV1, defined_at: datetime) -> None:
        """Keeps the event's specification; a revision defined again is in force again."""
        ...


class ProjectRevisions:
    """`Projects` in the service's database."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def current(self, project: str) -> tuple[str, ProjectSpec] | None:
        """(revision, specification) in force, or None where the project is unknown."""
        newest = select(ProjectRevision).where(ProjectRevision.project == project)
        row = self._session.exec(newest.order_by(col(ProjectRevision.defined_at).desc()).limit(1)).first()
        return None if row is None else (row.revision, ProjectSpec.model_validate_json(row.spec))

    def at(self, project: str, revision: str) -> ProjectSpec | None:
        """The specification of a revision, or None."""
        row = self._session.get(ProjectRevision, (project, revision))
        return None if row is None else ProjectSpec.model_validate_json(row.spec)

    def names(self) -> list[str]:
        """The known projects in alphabetical order."""
        return sorted(set(self._session.exec(select(ProjectRevision.project)).all()))

    def remember(self, event: ProjectDefinedV1, defined_at: datetime) -> None:
        """Keeps the event's specification; a revision defined again is in force again."""
        row = ProjectRevision(
            project=event.project,
            revision=event.revision,
            spec=event.spec.model_dump_json(),
            defined_at=defined_at,
        )
        self._session.merge(row)
        of_project = update(FairShare).where(col(FairShare.project) == event.project)
        self._session.connection().execute(of_project.values(priority=event.spec.priority))


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
