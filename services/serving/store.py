"""What should be served, as rows: a promoted version of a project each. Decides nothing, loads nothing."""

from datetime import datetime
from typing import Any, Protocol, cast

from sqlalchemy import JSON, Column, MetaData, Table, Text
from sqlmodel import Field, SQLModel, col, func, select

from contracts.events.registry import ModelPromotedV1
from contracts.types import ArtifactRef, BaseRef, Files, ModelRef
from services.chassis.retention.references import Held
from services.chassis.storage.projects import Projects
from services.chassis.storage.store import ChassisStore
from services.chassis.storage.tables import ProjectRevision, UtcDateTime
from services.serving.domain.reconcile import Deployment, Status
from services.serving.domain.served_version import Standing

METADATA = MetaData()


class Base(SQLModel):
    """Base of serving's tables."""

    metadata = METADATA


class DeploymentRow(Base, table=True):
    """A version that was promoted and how far it came; see domain/reconcile.py for `sequence` and `answered`."""

    __tablename__ = "deployment"  # pyright: ignore[reportAssignmentType]

    project: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    kind: str
    base: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    files: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    project_revision: str
    sequence: int
    answered: int = 0
    status: str = "pending"
    detail: str = Field(default="", sa_column=Column(Text, nullable=False))
    promoted_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    deployed_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


class NamedProjects(Projects, Protocol):
    """The projects with their names."""

    def names(self) -> list[str]:
        """All of them, in alphabetical order."""
        ...


class Store(Protocol):
    """What handlers and the deployer need of the database."""

    @property
    def projects(self) -> NamedProjects:
        """The projects serving knows."""
        ...

    def promote(self, event: ModelPromotedV1, at: datetime) -> None:
        """Notes that the version is wanted in production, above all of its project before."""
        ...

    def standing(self) -> list[Standing]:
        """All versions, by project and version, with the prompt and policy that hold for each."""
        ...

    def needed(self) -> list[tuple[str, int, str, BaseRef, Files]]:
        """(project, version, kind, base, files) of every version that was not removed."""
        ...

    def settle(self, model: ModelRef, sequence: int, status: Status, detail: str, at: datetime) -> bool:
        """Notes how a promotion ended. False, and nothing noted, where a newer promotion of the version has come."""
        ...

    def stamp(self) -> tuple[Any, ...]:
        """Differs whenever a promotion or a project has come since: cheap to ask."""
        ...


class SqlStore(ChassisStore):
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
            promoted_at=at,
        )
        before = self.session.get(DeploymentRow, (row.project, row.version))
        if before is not None:
            row.answered, row.deployed_at = before.answered, before.deployed_at
        self.session.merge(row)
        self.session.flush()

    def standing(self) -> list[Standing]:
        """All versions, by project and version, with the prompt and policy that hold for each."""
        rows = self.session.exec(select(DeploymentRow).order_by(col(DeploymentRow.project), col(DeploymentRow.version)))
        return [self._standing(row) for row in rows.all()]

    def needed(self) -> list[tuple[str, int, str, BaseRef, Files]]:
        """(project, version, kind, base, files) of every version that was not removed."""
        rows = self.session.exec(select(DeploymentRow).where(DeploymentRow.status != "removed")).all()
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

    def settle(self, model: ModelRef, sequence: int, status: Status, detail: str, at: datetime) -> bool:
        """Notes how a promotion ended; see `Store`."""
        row = self.session.get(DeploymentRow, (model.name, model.version), with_for_update=True)
        if row is None or row.sequence != sequence:
            return False
        row.status, row.detail = status, detail
        if status == "deployed":
            row.answered, row.deployed_at = sequence, at
        if status == "removed":
            row.answered = 0
        self.session.add(row)
        self.session.flush()
        return True

    def sequence(self, model: ModelRef) -> int | None:
        """The place of the version's newest promotion, or None."""
        row = self.session.get(DeploymentRow, (model.name, model.version))
        return None if row is None else row.sequence

    def stamp(self) -> tuple[Any, ...]:
        """Differs whenever a promotion or a project has come since."""
        promotions = self.session.exec(select(func.count(), func.sum(DeploymentRow.sequence))).one()
        newest = (func.max(ProjectRevision.defined_at), func.sum(ProjectRevision.sequence))
        return (*promotions, *self.session.exec(select(func.count(), *newest).select_from(ProjectRevision)).one())

    def _standing(self, row: DeploymentRow) -> Standing:
        now = self.projects.current(row.project)
        then = self.projects.at(row.project, row.project_revision)
        base = BaseRef.model_validate(row.base)
        return Standing(
            deployment=_deployment(row, base),
            base=base,
            files={path: ArtifactRef.model_validate(ref) for path, ref in row.files.items()},
            prompt=(then or now[1]).prompt if now else None,
            serve=now[1].serve if now else None,
            detail=row.detail,
            promoted_at=row.promoted_at,
            deployed_at=row.deployed_at,
        )


def held() -> tuple[Held, ...]:
    """What is served, or shall be, names its weights and its base."""
    deployment: Table = getattr(DeploymentRow, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
    served = deployment.c.status != "removed"
    return (Held(deployment, (deployment.c.base, deployment.c.files), deployment.c.promoted_at, served),)


def _deployment(row: DeploymentRow, base: BaseRef) -> Deployment:
    return Deployment(
        project=row.project,
        version=row.version,
        kind="full" if row.kind == "full" else "lora",
        base=base.digest,
        sequence=row.sequence,
        answered=row.answered,
        status=cast(Status, row.status),
    )
