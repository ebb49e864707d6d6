"""What the trainer keeps: its runs, and each project's champion. Decides nothing."""

from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import JSON, Column, Index, MetaData, Table, and_, or_
from sqlmodel import Field, SQLModel, col, select

from contracts.events.registry import ModelPromotedV1
from services.chassis.jobs.job import Jobs
from services.chassis.retention.references import ArtifactReference
from services.chassis.storage.projects import Projects
from services.chassis.storage.store import ChassisStore
from services.chassis.storage.tables import UtcDateTime
from services.trainer.domain.run_state import Run

METADATA = MetaData()


class RunRow(SQLModel, table=True):
    """A run; `document` is a domain Run as JSON."""

    __tablename__ = "run"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("run_newest", "created_at", "run_id"),
        Index("run_of_project", "project", "created_at", "run_id"),
    )
    metadata = METADATA

    run_id: str = Field(primary_key=True)
    project: str
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    document: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class ChampionRow(SQLModel, table=True):
    """The promotion that is in force in a project, as its event's JSON."""

    __tablename__ = "champion"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    promotion: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class Store(Protocol):
    """What handlers and HTTP ask for, within one transaction."""

    @property
    def jobs(self) -> Jobs:
        """The job book."""
        ...

    @property
    def projects(self) -> Projects:
        """The projects that were defined."""
        ...

    def champion(self, project: str) -> ModelPromotedV1 | None:
        """The promotion in force; None where the base answers."""
        ...

    def set_champion(self, promotion: ModelPromotedV1) -> None:
        """Puts a promotion in force."""
        ...

    def run(self, run_id: str) -> Run | None:
        """A run, or None."""
        ...

    def keep(self, run: Run) -> None:
        """Adds a run or puts it in place of the one of its id."""
        ...

    def runs(self, project: str | None, limit: int, after: tuple[datetime, str] | None = None) -> list[Run]:
        """The newest first, from behind the place (created_at, run_id)."""
        ...


class SqlStore(ChassisStore):
    """`Store` in the service's database."""

    def champion(self, project: str) -> ModelPromotedV1 | None:
        """The promotion in force; None where the base answers."""
        row = self.session.get(ChampionRow, project)
        return None if row is None else ModelPromotedV1.model_validate(row.promotion)

    def set_champion(self, promotion: ModelPromotedV1) -> None:
        """Puts a promotion in force."""
        self.session.merge(ChampionRow(project=promotion.project, promotion=promotion.model_dump(mode="json")))

    def run(self, run_id: str) -> Run | None:
        """A run, or None."""
        row = self.session.get(RunRow, run_id)
        return None if row is None else Run.model_validate(row.document)

    def keep(self, run: Run) -> None:
        """Adds a run or puts it in place of the one of its id."""
        document = run.model_dump(mode="json")
        self.session.merge(RunRow(run_id=run.run_id, project=run.project, created_at=run.created_at, document=document))

    def runs(self, project: str | None, limit: int, after: tuple[datetime, str] | None = None) -> list[Run]:
        """The newest first, from behind the place (created_at, run_id)."""
        at, id_ = col(RunRow.created_at), col(RunRow.run_id)
        query = select(RunRow).order_by(at.desc(), id_.desc()).limit(limit)
        if project is not None:
            query = query.where(RunRow.project == project)
        if after is not None:
            query = query.where(at <= after[0], or_(at < after[0], and_(at == after[0], id_ < after[1])))
        return [Run.model_validate(row.document) for row in self.session.exec(query).all()]


def artifact_references() -> tuple[ArtifactReference, ...]:
    """Runs and champions name what their documents name."""
    run: Table = getattr(RunRow, "__table__")  # noqa: B009
    champion: Table = getattr(ChampionRow, "__table__")  # noqa: B009
    return (
        ArtifactReference(run, (run.c.document,), run.c.created_at),
        ArtifactReference(champion, (champion.c.promotion,)),
    )
