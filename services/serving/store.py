"""What should be served, as rows: a promoted version of a project each. Decides nothing, loads nothing."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from sqlalchemy import Table, bindparam, literal_column, tuple_, update
from sqlmodel import col, func, select

from contracts.events.registry import ModelPromotedV1
from contracts.types import ArtifactRef, BaseRef, Files, ModelRef
from services.chassis.retention.references import ArtifactReference
from services.chassis.storage.projects import Projects
from services.chassis.storage.store import ChassisStore
from services.chassis.storage.tables import ProjectRevision
from services.serving.domain.reconcile import Deployment, Outcome, Status, may_become
from services.serving.domain.served_version import Applied, ServedVersion
from services.serving.figures import FigureQueries, FigureStore
from services.serving.prompts import PromptQueries, PromptStore
from services.serving.tables import LIVE, ChangeCounterRow, DeploymentRow

Place = tuple[datetime, str, int]
"""(promoted_at, project, version): where a page of deployments ends."""


class NamedProjects(Projects, Protocol):
    """The projects with their names."""

    def names(self) -> list[str]:
        """All of them, in alphabetical order."""
        ...


class Store(PromptStore, FigureStore, Protocol):
    """What handlers, routes and the deployer need of the database."""

    @property
    def projects(self) -> NamedProjects:
        """The projects serving knows."""
        ...

    def promote(self, event: ModelPromotedV1, at: datetime) -> None:
        """Notes that the version is wanted in production, above all of its project before."""
        ...

    def retire(self, project: str, after: int, detail: str) -> list[Deployment]:
        """Lets the project's promotions up to number `after` be served no more; those that this ended."""
        ...

    def needed(self) -> list[tuple[str, int, str, BaseRef, Files]]:
        """(project, version, kind, base, files) of every version that was not removed."""
        ...

    def live_versions(self) -> list[ServedVersion]:
        """All versions that are not removed, by project and version, with the prompt and policy that hold for each."""
        ...

    def applied(self, served: Collection[str]) -> list[Applied]:
        """The projects in service but those that are `served`."""
        ...

    def taught(self) -> list[Applied]:
        """The projects in service that have a teacher."""
        ...

    def deployments(
        self, projects: Iterable[str] | None, limit: int, after: Place | None = None
    ) -> list[ServedVersion]:
        """Versions of these projects (None: of all), the last promoted first, from behind a place."""
        ...

    def set_status(self, model: ModelRef, sequence: int, status: Outcome, detail: str, at: datetime) -> bool:
        """Notes how a promotion ended. False, and nothing noted, where a newer one has come or it ended otherwise."""
        ...

    def count_change(self) -> None:
        """Makes `change_number` another one."""
        ...

    def change_number(self) -> int:
        """Another one whenever a promotion or a project has come since: cheap to ask."""
        ...


class SqlStore(PromptQueries, FigureQueries, ChassisStore):
    """`Store` in the service's database."""

    def promote(self, event: ModelPromotedV1, at: datetime) -> None:
        """Notes that the version is wanted in production, above all of its project before."""
        newest = select(func.max(DeploymentRow.sequence)).where(DeploymentRow.project == event.project)
        row = DeploymentRow(
            project=event.project,
            version=event.model.version,
            kind=event.kind,
            base=event.base.model_dump(mode="json"),
            files={path: ref.model_dump(mode="json") for path, ref in event.files.items()},
            project_revision=event.project_revision,
            sequence=(self.session.exec(newest).one() or 0) + 1,
            promotion=event.promotion,
            prompt_version=event.prompt_version,
            promoted_at=at,
        )
        before = self.session.get(DeploymentRow, (row.project, row.version))
        if before is not None:
            row.answered, row.deployed_at = before.answered, before.deployed_at
        self.session.merge(row)
        self.session.flush()
        self.count_change()

    def retire(self, project: str, after: int, detail: str) -> list[Deployment]:
        """Lets the project's promotions up to number `after` be served no more; those that this ended."""
        of_project = select(DeploymentRow).where(DeploymentRow.project == project, literal_column(LIVE))
        rows = [r for r in self.session.exec(of_project.with_for_update()).all() if (r.promotion or 0) <= after]
        ended = [_deployment(row, BaseRef.model_validate(row.base)) for row in rows]
        for row in rows:
            row.status, row.detail, row.answered = "removed", detail, 0
            self.session.add(row)
        self.session.flush()
        return ended

    def needed(self) -> list[tuple[str, int, str, BaseRef, Files]]:
        """(project, version, kind, base, files) of every version that was not removed."""
        rows = self.session.exec(select(DeploymentRow).where(literal_column(LIVE))).all()
        return [
            (
                row.project,
                row.version,
                row.kind,
                BaseRef.model_validate(row.base),
                {path: ArtifactRef.model_validate(ref) for path, ref in row.files.items()},
            )
            for row in rows
        ]

    def live_versions(self) -> list[ServedVersion]:
        """All versions that are not removed, by project and version, with the prompt and policy that hold for each."""
        live = select(DeploymentRow).where(literal_column(LIVE))
        rows = self.session.exec(live.order_by(col(DeploymentRow.project), col(DeploymentRow.version)))
        return self._served(rows.all())

    def applied(self, served: Collection[str]) -> list[Applied]:
        """The projects in service but those that are `served`."""
        return [found for name in self.projects.names() if name not in served and (found := self._applied(name))]

    def taught(self) -> list[Applied]:
        """The projects in service that have a teacher."""
        return [found for found in self.applied(()) if found.spec.serve.teacher is not None]

    def _applied(self, project: str) -> Applied | None:
        now = None if self.projects.is_retired(project) else self.projects.current(project)
        if now is None:
            return None
        row = self.session.get_one(ProjectRevision, (project, now[0]))
        numbers = reversed(self.prompt_numbers(project))
        number = next((n for n in numbers if self.prompt(project, n) == now[1].prompt), None)
        return Applied(now[1], row.defined_at or datetime.fromtimestamp(0, UTC), number)

    def deployments(
        self, projects: Iterable[str] | None, limit: int, after: Place | None = None
    ) -> list[ServedVersion]:
        """Versions of these projects (None: of all), the last promoted first, from behind a place."""
        place = (col(DeploymentRow.promoted_at), col(DeploymentRow.project), col(DeploymentRow.version))
        newest = select(DeploymentRow).order_by(*(column.desc() for column in place)).limit(limit)
        if after is not None:
            newest = newest.where(tuple_(*place) < tuple_(*map(_typed, after, place)))
        if projects is None:
            return self._served(self.session.exec(newest).all())
        each = [self.session.exec(newest.where(DeploymentRow.project == project)).all() for project in projects]
        rows = [row for rows in each for row in rows]
        rows.sort(key=lambda row: (row.promoted_at, row.project, row.version), reverse=True)
        return self._served(rows[:limit])

    def set_status(self, model: ModelRef, sequence: int, status: Outcome, detail: str, at: datetime) -> bool:
        """Notes how a promotion ended; see `Store`."""
        row = self.session.get(DeploymentRow, (model.name, model.version), with_for_update=True)
        if row is None or row.sequence != sequence or not may_become(cast(Status, row.status), status):
            return False
        row.status, row.detail = status, detail
        if status == "deployed":
            row.answered, row.deployed_at = sequence, at
        if status == "removed":
            row.answered = 0
        self.session.add(row)
        self.session.flush()
        return True

    def newest_promotion(self, model: ModelRef) -> tuple[int, int | None] | None:
        """(sequence, the registry's number) of the version's newest promotion, or None."""
        row = self.session.get(DeploymentRow, (model.name, model.version))
        return None if row is None else (row.sequence, row.promotion)

    def count_change(self) -> None:
        """Makes `change_number` another one."""
        one_more = update(ChangeCounterRow).values(number=ChangeCounterRow.number + 1)
        self.session.connection().execute(one_more)

    def change_number(self) -> int:
        """Another one whenever a promotion or a project has come since."""
        return self.session.exec(select(ChangeCounterRow.number).where(ChangeCounterRow.id == 1)).one()

    def _served(self, rows: Iterable[DeploymentRow]) -> list[ServedVersion]:
        return [self._served_version(row) for row in rows]

    def _served_version(self, row: DeploymentRow) -> ServedVersion:
        now = self.projects.current(row.project)
        then = self.projects.at(row.project, row.project_revision)
        base = BaseRef.model_validate(row.base)
        return ServedVersion(
            deployment=_deployment(row, base),
            base=base,
            files={path: ArtifactRef.model_validate(ref) for path, ref in row.files.items()},
            prompt=(then or now[1]).prompt if now else None,
            serve=now[1].serve if now else None,
            detail=row.detail,
            promoted_at=row.promoted_at,
            deployed_at=row.deployed_at,
            prompt_version=row.prompt_version if then else None,
        )


def artifact_references() -> tuple[ArtifactReference, ...]:
    """What is served, or shall be, names its weights and its base."""
    deployment: Table = getattr(DeploymentRow, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
    served = deployment.c.status != "removed"
    return (ArtifactReference(deployment, (deployment.c.base, deployment.c.files), deployment.c.promoted_at, served),)


def _typed(value: Any, column: Any) -> Any:
    """A parameter of the column's type, as a row comparison needs it."""
    return bindparam(None, value, type_=column.type, unique=True)


def _deployment(row: DeploymentRow, base: BaseRef) -> Deployment:
    return Deployment(
        project=row.project,
        version=row.version,
        kind="full" if row.kind == "full" else "lora",
        base=base.digest,
        sequence=row.sequence,
        answered=row.answered,
        status=cast(Status, row.status),
        promotion=row.promotion,
    )
