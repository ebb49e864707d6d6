"""What the registry keeps: versions with their stage, and the history of every transition. Decides nothing."""

from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import JSON, Column, Index, MetaData, Table, Text, and_, func, or_
from sqlmodel import Field, SQLModel, col, select

from contracts.events.evaluator import ModelScoredV1
from contracts.events.trainer import ModelTrainedV1
from services.chassis.retention.references import Held
from services.chassis.storage.projects import NEWEST_FIRST, Projects
from services.chassis.storage.store import ChassisStore
from services.chassis.storage.tables import NUMBER, ProjectRevision, UtcDateTime
from services.registry.domain.history import Transition
from services.registry.domain.version import ModelVersion

METADATA = MetaData()


class Base(SQLModel):
    """Base of the registry's tables."""

    metadata = METADATA


class ModelRow(Base, table=True):
    """A model; its row is locked while one of its versions moves, so that two are never in production."""

    __tablename__ = "model"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)


class VersionRow(Base, table=True):
    """A version; `trained` and `scored` are events as JSON."""

    __tablename__ = "model_version"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("model_version_newest", "created_at", "run_id"),)

    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    run_id: str = Field(unique=True)
    stage: str
    detail: str = Field(sa_column=Column(Text, nullable=False))
    failed: list[str] = Field(sa_column=Column(JSON, nullable=False))
    trained: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    scored: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class TransitionRow(Base, table=True):
    """One move of a version; rows are added, never changed."""

    __tablename__ = "transition"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("transition_of", "name", "id"),)

    id: int | None = Field(default=None, sa_column=Column(NUMBER, primary_key=True, autoincrement=True))
    name: str
    version: int
    before: str | None
    after: str
    cause: str
    by: str
    reason: str = Field(sa_column=Column(Text, nullable=False))
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    event: str | None


class Store(Protocol):
    """What handlers and HTTP ask for, within one transaction."""

    @property
    def projects(self) -> Projects:
        """The projects that were defined."""
        ...

    def lock(self, name: str) -> None:
        """Lets no other transaction move versions of this model until this one ends."""
        ...

    def version(self, name: str, version: int) -> ModelVersion | None:
        """A version, or None."""
        ...

    def of_run(self, run_id: str) -> ModelVersion | None:
        """The version that a run became, or None."""
        ...

    def production(self, name: str) -> ModelVersion | None:
        """The version in production; None where the base answers."""
        ...

    def next_version(self, name: str) -> int:
        """The number of the model's next version."""
        ...

    def keep(self, version: ModelVersion) -> None:
        """Adds a version or puts it in place of the one of its number."""
        ...

    def versions(
        self, project: str | None, limit: int, after: tuple[datetime, str] | None = None
    ) -> list[ModelVersion]:
        """The newest first, from behind the place (created_at, run_id)."""
        ...

    def record(self, name: str, entry: Transition) -> None:
        """Adds to a model's history."""
        ...

    def history(self, name: str) -> list[Transition]:
        """A model's history, oldest first."""
        ...

    def revisions(self, project: str) -> list[tuple[str, datetime]]:
        """A project's revisions and when each came in force, newest first."""
        ...

    def project_names(self, limit: int, after: str | None = None) -> list[str]:
        """Names of projects in alphabetical order, from behind `after`."""
        ...


class SqlStore(ChassisStore):
    """`Store` in the service's database."""

    def lock(self, name: str) -> None:
        """Lets no other transaction move versions of this model until this one ends."""
        locked = select(ModelRow).where(ModelRow.name == name).with_for_update()
        if self.session.exec(locked).first() is None:
            self.session.add(ModelRow(name=name))
            self.session.flush()

    def version(self, name: str, version: int) -> ModelVersion | None:
        """A version, or None."""
        row = self.session.get(VersionRow, (name, version))
        return None if row is None else _version(row)

    def of_run(self, run_id: str) -> ModelVersion | None:
        """The version that a run became, or None."""
        row = self.session.exec(select(VersionRow).where(VersionRow.run_id == run_id)).first()
        return None if row is None else _version(row)

    def production(self, name: str) -> ModelVersion | None:
        """The version in production; None where the base answers."""
        of_name = select(VersionRow).where(VersionRow.name == name, VersionRow.stage == "production")
        row = self.session.exec(of_name).first()
        return None if row is None else _version(row)

    def next_version(self, name: str) -> int:
        """The number of the model's next version."""
        last = self.session.exec(select(func.max(VersionRow.version)).where(VersionRow.name == name)).one()
        return (last or 0) + 1

    def keep(self, version: ModelVersion) -> None:
        """Adds a version or puts it in place of the one of its number."""
        self.session.merge(
            VersionRow(
                name=version.name,
                version=version.version,
                run_id=version.trained.run_id,
                stage=version.stage,
                detail=version.detail,
                failed=list(version.failed),
                trained=version.trained.model_dump(mode="json"),
                scored=version.scored.model_dump(mode="json") if version.scored else None,
                created_at=version.created_at,
            )
        )
        self.session.flush()  # row by row: one version must leave production before another enters it

    def versions(
        self, project: str | None, limit: int, after: tuple[datetime, str] | None = None
    ) -> list[ModelVersion]:
        """The newest first, from behind the place (created_at, run_id)."""
        at, run = col(VersionRow.created_at), col(VersionRow.run_id)
        query = select(VersionRow).order_by(at.desc(), run.desc()).limit(limit)
        if project is not None:
            query = query.where(VersionRow.name == project)
        if after is not None:
            query = query.where(or_(at < after[0], and_(at == after[0], run < after[1])))
        return [_version(row) for row in self.session.exec(query).all()]

    def record(self, name: str, entry: Transition) -> None:
        """Adds to a model's history."""
        self.session.add(TransitionRow(name=name, **{f: getattr(entry, f) for f in Transition.__dataclass_fields__}))

    def history(self, name: str) -> list[Transition]:
        """A model's history, oldest first."""
        rows = self.session.exec(
            select(TransitionRow).where(TransitionRow.name == name).order_by(col(TransitionRow.id))
        ).all()
        return [Transition(**{f: getattr(row, f) for f in Transition.__dataclass_fields__}) for row in rows]

    def revisions(self, project: str) -> list[tuple[str, datetime]]:
        """A project's revisions and when each came in force, newest first."""
        of_project = select(ProjectRevision).where(ProjectRevision.project == project)
        rows = self.session.exec(of_project.order_by(*NEWEST_FIRST)).all()
        return [(row.revision, row.defined_at) for row in rows if row.defined_at is not None]

    def project_names(self, limit: int, after: str | None = None) -> list[str]:
        """Names of projects in alphabetical order, from behind `after`."""
        name = col(ProjectRevision.project)
        defined = (name > (after or ""), col(ProjectRevision.defined_at).is_not(None))
        query = select(name).where(*defined).distinct().order_by(name).limit(limit)
        return list(self.session.exec(query).all())


def held() -> tuple[Held, ...]:
    """Versions name weights, base, dataset and results; those that are or may come into production do so for good."""
    version: Table = getattr(VersionRow, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
    wanted = version.c.stage.not_in(("rejected", "archived"))
    return (Held(version, (version.c.trained, version.c.scored), version.c.created_at, wanted),)


def _version(row: VersionRow) -> ModelVersion:
    return ModelVersion(
        name=row.name,
        version=row.version,
        stage=row.stage,  # pyright: ignore[reportArgumentType] - only stages are ever written
        trained=ModelTrainedV1.model_validate(row.trained),
        created_at=row.created_at,
        scored=None if row.scored is None else ModelScoredV1.model_validate(row.scored),
        detail=row.detail,
        failed=tuple(row.failed),
    )
