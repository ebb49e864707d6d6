"""What the evaluator keeps: evaluations, each project's champion, and where predictions lie. Decides nothing."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import JSON, Column, Index, MetaData, Table, and_, or_, update
from sqlmodel import Field, SQLModel, col, select

from contracts.events.registry import ModelPromotedV1
from contracts.types import ArtifactRef
from services.chassis.jobs.job import Jobs
from services.chassis.retention.pruning import Horizon
from services.chassis.retention.references import ArtifactReference
from services.chassis.storage.projects import Projects
from services.chassis.storage.store import ChassisStore
from services.chassis.storage.tables import UtcDateTime
from services.evaluator.domain.evaluation import Evaluation
from services.evaluator.domain.task import PredictionsRef

METADATA = MetaData()


class Base(SQLModel):
    """Base of the evaluator's tables."""

    metadata = METADATA


class EvaluationRow(Base, table=True):
    """An evaluation; `document` is a domain Evaluation as JSON."""

    __tablename__ = "evaluation"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("evaluation_newest", "created_at", "evaluation_id"),
        Index("evaluation_newest_of", "project", "created_at", "evaluation_id"),
    )

    evaluation_id: str = Field(primary_key=True)
    project: str
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    document: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class ChampionRow(Base, table=True):
    """The promotion that is in force in a project, as its event's JSON."""

    __tablename__ = "champion"  # pyright: ignore[reportAssignmentType]

    project: str = Field(primary_key=True)
    promotion: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class PredictionsRow(Base, table=True):
    """Where the newest predictions of a model under one setting lie, and when an evaluation last wanted them."""

    __tablename__ = "predictions"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("predictions_used", "used_at"),)

    model: str = Field(primary_key=True)
    settings: str = Field(primary_key=True)
    file: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    used_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class JudgeCallRow(Base, table=True):
    """A request to a judge: what was asked, its verdict, and what it cost; written by judge/ledger.py as it is sent."""

    __tablename__ = "judge_call"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("judge_call_key", "key"),
        Index("judge_call_day", "project", "asked_at"),
        Index("judge_call_asked", "asked_at"),
    )

    number: int | None = Field(default=None, primary_key=True)
    key: str
    project: str
    asked_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    win: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


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

    def use_predictions(self, models: Iterable[str], at: datetime) -> tuple[PredictionsRef, ...]:
        """The predictions of models, whatever the settings; they are kept for as long again from `at`."""
        ...

    def keep_predictions(self, found: Iterable[PredictionsRef], at: datetime) -> None:
        """Keeps predictions, used `at`, in place of older ones of the same model and settings."""
        ...

    def evaluation(self, evaluation_id: str) -> Evaluation | None:
        """An evaluation, or None."""
        ...

    def keep(self, evaluation: Evaluation) -> None:
        """Adds an evaluation or puts it in place of the one of its id."""
        ...

    def evaluations(
        self, project: str | None, limit: int, after: tuple[datetime, str] | None = None
    ) -> list[Evaluation]:
        """The newest first, from behind the place (created_at, evaluation_id)."""
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

    def use_predictions(self, models: Iterable[str], at: datetime) -> tuple[PredictionsRef, ...]:
        """The predictions of models, whatever the settings; they are kept for as long again from `at`."""
        of_models = col(PredictionsRow.model).in_(list(models))
        older = of_models, col(PredictionsRow.used_at) < at
        self.session.connection().execute(update(PredictionsRow).where(*older).values(used_at=at))
        rows = self.session.exec(select(PredictionsRow).where(of_models)).all()
        return tuple(
            PredictionsRef(model=row.model, settings=row.settings, file=ArtifactRef.model_validate(row.file))
            for row in rows
        )

    def keep_predictions(self, found: Iterable[PredictionsRef], at: datetime) -> None:
        """Keeps predictions, used `at`, in place of older ones of the same model and settings."""
        for one in found:
            file = one.file.model_dump(mode="json")
            before = self.session.get(PredictionsRow, (one.model, one.settings))
            used_at = at if before is None else max(at, before.used_at)
            self.session.merge(PredictionsRow(model=one.model, settings=one.settings, file=file, used_at=used_at))

    def evaluation(self, evaluation_id: str) -> Evaluation | None:
        """An evaluation, or None."""
        row = self.session.get(EvaluationRow, evaluation_id)
        return None if row is None else Evaluation.model_validate(row.document)

    def keep(self, evaluation: Evaluation) -> None:
        """Adds an evaluation or puts it in place of the one of its id."""
        self.session.merge(
            EvaluationRow(
                evaluation_id=evaluation.evaluation_id,
                project=evaluation.project,
                created_at=evaluation.created_at,
                document=evaluation.model_dump(mode="json"),
            )
        )

    def evaluations(
        self, project: str | None, limit: int, after: tuple[datetime, str] | None = None
    ) -> list[Evaluation]:
        """The newest first, from behind the place (created_at, evaluation_id)."""
        at, id_ = col(EvaluationRow.created_at), col(EvaluationRow.evaluation_id)
        query = select(EvaluationRow).order_by(at.desc(), id_.desc()).limit(limit)
        if project is not None:
            query = query.where(EvaluationRow.project == project)
        if after is not None:
            query = query.where(at <= after[0], or_(at < after[0], and_(at == after[0], id_ < after[1])))
        return [Evaluation.model_validate(row.document) for row in self.session.exec(query).all()]


def horizons(predictions: timedelta) -> tuple[Horizon, ...]:
    """Predictions are kept for so long after an evaluation last wanted them, verdicts of a judge after it gave them.

    Who wants them later has them made anew.
    """
    tables: list[Table] = [getattr(row, "__table__") for row in (PredictionsRow, JudgeCallRow)]  # noqa: B009
    table, calls = tables
    return Horizon(table, table.c.used_at, predictions), Horizon(calls, calls.c.asked_at, predictions)


def artifact_references() -> tuple[ArtifactReference, ...]:
    """Champions name their weights, predictions their files, evaluations their results."""
    tables: list[Table] = [getattr(row, "__table__") for row in (ChampionRow, PredictionsRow, EvaluationRow)]  # noqa: B009
    champion, predictions, evaluation = tables
    return (
        ArtifactReference(champion, (champion.c.promotion,)),
        ArtifactReference(predictions, (predictions.c.file,)),
        ArtifactReference(evaluation, (evaluation.c.document,), evaluation.c.created_at),
    )
