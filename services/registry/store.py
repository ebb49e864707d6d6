"""What the registry keeps: versions with their stage, promotions, and the history of every transition. Decides nothing."""

from datetime import datetime
from typing import Protocol

from sqlalchemy import Table, and_, func, literal_column, or_
from sqlmodel import col, select

from services.chassis.retention.references import ArtifactReference
from services.chassis.storage.projects import NEWEST_FIRST, Projects
from services.chassis.storage.store import ChassisStore
from services.chassis.storage.tables import ProjectRevision
from services.registry.domain.history import Stage, Transition
from services.registry.domain.spending import Spent
from services.registry.domain.version import ModelVersion
from services.registry.promotions import PromotionQueries, PromotionStore
from services.registry.prompts import PromptQueries, PromptStore
from services.registry.rows import row_of, spent_of, spent_row, transition_of, version_of
from services.registry.tables import CANDIDATE, PRODUCTION, ModelRow, TransitionRow, VersionRow


class Store(PromotionStore, PromptStore, Protocol):
    """What handlers and HTTP ask for, within one transaction."""

    @property
    def projects(self) -> Projects:
        """The projects that were defined."""
        ...

    def lock(self, name: str) -> None:
        """Lets no other transaction move versions of this model until this one ends."""
        ...

    def retire(self, name: str, after: int | None) -> None:
        """Takes the project out of service after a promotion, or (None) back into it."""
        ...

    def spent(self, name: str) -> Spent | None:
        """What comparisons have taken of the model's held-out rows; None before the first."""
        ...

    def spend(self, name: str, spent: Spent) -> None:
        """Keeps it; the model's row is locked."""
        ...

    def version(self, name: str, version: int) -> ModelVersion | None:
        """A version, or None."""
        ...

    def of_run(self, run_id: str) -> ModelVersion | None:
        """The version that a run became, or None."""
        ...

    def production(self, name: str) -> ModelVersion | None:
        """The version wanted in production; None where that is the base."""
        ...

    def newest(self, name: str) -> ModelVersion | None:
        """The version of the highest number."""
        ...

    def in_stage(self, name: str, stage: Stage, limit: int) -> list[ModelVersion]:
        """The newest versions of a stage, newest first."""
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

    def history(self, name: str, limit: int, after: int = 0) -> list[tuple[int, Transition]]:
        """A model's history with the entries' numbers, oldest first, from behind one of them."""
        ...

    def history_of(self, name: str, version: int, limit: int) -> list[Transition]:
        """The newest entries of one version's history, oldest first."""
        ...

    def revisions(self, project: str, limit: int) -> list[tuple[str, datetime]]:
        """A project's newest revisions and when each came in force, newest first."""
        ...

    def project_names(self, limit: int, after: str | None = None) -> list[str]:
        """Names of projects in alphabetical order, from behind `after`."""
        ...

    def open_candidates(self) -> dict[str, int]:
        """How many candidates of projects in service there are, by how their evaluation stands."""
        ...

    def undeployed(self) -> int:
        """How many versions are wanted in production that serving could not deploy."""
        ...


class SqlStore(PromotionQueries, PromptQueries, ChassisStore):
    """`Store` in the service's database."""

    def lock(self, name: str) -> None:
        """Lets no other transaction move versions of this model until this one ends."""
        locked = select(ModelRow).where(ModelRow.name == name).with_for_update()
        if self.session.exec(locked).first() is None:
            self.session.add(ModelRow(name=name))
            self.session.flush()

    def retire(self, name: str, after: int | None) -> None:
        """Takes the project out of service after a promotion, or (None) back into it."""
        self.lock(name)
        row = self.session.get_one(ModelRow, name)
        row.retired_after = after
        self.session.add(row)
        self.session.flush()

    def spent(self, name: str) -> Spent | None:
        """What comparisons have taken of the model's held-out rows; None before the first."""
        row = self.session.get(ModelRow, name)
        return None if row is None else spent_of(row.spent)

    def spend(self, name: str, spent: Spent) -> None:
        """Keeps it; the model's row is locked."""
        row = self.session.get_one(ModelRow, name)
        row.spent = spent_row(spent)
        self.session.add(row)
        self.session.flush()

    def version(self, name: str, version: int) -> ModelVersion | None:
        """A version, or None."""
        row = self.session.get(VersionRow, (name, version))
        return None if row is None else version_of(row)

    def of_run(self, run_id: str) -> ModelVersion | None:
        """The version that a run became, or None."""
        row = self.session.exec(select(VersionRow).where(VersionRow.run_id == run_id)).first()
        return None if row is None else version_of(row)

    def production(self, name: str) -> ModelVersion | None:
        """The version wanted in production; None where that is the base."""
        found = self.in_stage(name, "production", 1)
        return found[0] if found else None

    def newest(self, name: str) -> ModelVersion | None:
        """The version of the highest number."""
        of_name = select(VersionRow).where(VersionRow.name == name)
        row = self.session.exec(of_name.order_by(col(VersionRow.version).desc()).limit(1)).first()
        return None if row is None else version_of(row)

    def in_stage(self, name: str, stage: Stage, limit: int) -> list[ModelVersion]:
        """The newest versions of a stage, newest first."""
        found = select(VersionRow).where(VersionRow.name == name, VersionRow.stage == stage)
        rows = self.session.exec(found.order_by(col(VersionRow.version).desc()).limit(limit)).all()
        return [version_of(row) for row in rows]

    def keep(self, version: ModelVersion) -> None:
        """Adds a version or puts it in place of the one of its number."""
        self.session.merge(row_of(version))
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
            query = query.where(at <= after[0], or_(at < after[0], and_(at == after[0], run < after[1])))
        return [version_of(row) for row in self.session.exec(query).all()]

    def record(self, name: str, entry: Transition) -> None:
        """Adds to a model's history."""
        self.session.add(TransitionRow(name=name, **{f: getattr(entry, f) for f in Transition.__dataclass_fields__}))

    def history(self, name: str, limit: int, after: int = 0) -> list[tuple[int, Transition]]:
        """A model's history with the entries' numbers, oldest first, from behind one of them."""
        number = col(TransitionRow.id)
        found = select(TransitionRow).where(TransitionRow.name == name, number > after)
        return [
            (row.id or 0, transition_of(row)) for row in self.session.exec(found.order_by(number).limit(limit)).all()
        ]

    def history_of(self, name: str, version: int, limit: int) -> list[Transition]:
        """The newest entries of one version's history, oldest first."""
        found = select(TransitionRow).where(TransitionRow.name == name, TransitionRow.version == version)
        rows = self.session.exec(found.order_by(col(TransitionRow.id).desc()).limit(limit)).all()
        return [transition_of(row) for row in reversed(rows)]

    def revisions(self, project: str, limit: int) -> list[tuple[str, datetime]]:
        """A project's newest revisions and when each came in force, newest first."""
        of_project = select(ProjectRevision).where(ProjectRevision.project == project)
        defined = of_project.where(col(ProjectRevision.defined_at).is_not(None))
        rows = self.session.exec(defined.order_by(*NEWEST_FIRST).limit(limit)).all()
        return [(row.revision, row.defined_at) for row in rows if row.defined_at is not None]

    def project_names(self, limit: int, after: str | None = None) -> list[str]:
        """Names of projects in alphabetical order, from behind `after`. Each has a row to lock."""
        name = col(ModelRow.name)
        of_model = select(ProjectRevision.project).where(ProjectRevision.project == name)
        # A value, not EXISTS: PostgreSQL would join that, and read every revision of every project.
        defined = of_model.where(col(ProjectRevision.defined_at).is_not(None)).limit(1).scalar_subquery()
        query = select(name).where(name > (after or ""), defined.is_not(None)).order_by(name).limit(limit)
        return list(self.session.exec(query).all())

    def open_candidates(self) -> dict[str, int]:
        """How many candidates of projects in service there are, by how their evaluation stands."""
        status, retired = (
            col(VersionRow.evaluation),
            select(ModelRow.name).where(col(ModelRow.retired_after).is_not(None)),
        )
        open_ = select(status, func.count()).where(literal_column(CANDIDATE), col(VersionRow.name).not_in(retired))
        counted = open_.group_by(status)
        return dict(self.session.exec(counted).all())

    def undeployed(self) -> int:
        """How many versions are wanted in production that serving could not deploy."""
        wanted = select(func.count()).select_from(VersionRow).where(literal_column(PRODUCTION))
        return self.session.exec(wanted.where(VersionRow.deployment == "failed")).one()


def artifact_references() -> tuple[ArtifactReference, ...]:
    """Versions name weights, base, dataset and results; those that are or may come into production do so for good.

    An archived one may serve, where what followed it could not be deployed; a retired project keeps all it had.
    """
    version: Table = getattr(VersionRow, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
    retired = select(ModelRow.name).where(col(ModelRow.retired_after).is_not(None))
    wanted = or_(
        version.c.stage.not_in(("rejected", "archived")),
        func.coalesce(version.c.deployment, "") == "deployed",
        version.c.name.in_(retired),
    )
    return (ArtifactReference(version, (version.c.trained, version.c.scored), version.c.created_at, wanted),)
