"""The figures of each answer in serving's database: who gave it, how fast, for how much. No text of anybody. Decides nothing."""

from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Protocol, cast

from sqlalchemy import Table
from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from contracts.events.serving import InferenceCompletedV1
from services.chassis.retention.pruning import Horizon
from services.serving.domain.routing import exact_name
from services.serving.domain.savings import Answered
from services.serving.domain.spending import begins
from services.serving.tables import AnswerRow

SAMPLE = 20_000
"""Of each answerer's good answers the times of so many, the newest, are looked at for percentiles."""


class FigureStore(Protocol):
    """The part of `Store` that asks of answers."""

    def keep_answer(self, event: InferenceCompletedV1, at: datetime) -> None:
        """Keeps the figures of an answer."""
        ...

    def spent(self, project: str, day: date, ids: Collection[str]) -> tuple[float, set[str]]:
        """Money for a project's teacher on a day (UTC), and which of these requests are known."""
        ...

    def answered(self, project: str, since: datetime) -> list[Answered]:
        """What each answerer of a project did since then, the busiest first."""
        ...


class FigureQueries:
    """`FigureStore` in the service's database; whoever takes it has the session."""

    session: Session

    def keep_answer(self, event: InferenceCompletedV1, at: datetime) -> None:
        """Keeps the figures of an answer."""
        teacher = event.teacher
        row = AnswerRow(
            request_id=event.request_id,
            project=event.project,
            at=at,
            answerer=exact_name(event.model) if teacher is None else f"{teacher.model} ({teacher.host})",
            teacher=teacher is not None,
            status=event.status,
            prompt_tokens=event.prompt_tokens,
            completion_tokens=event.completion_tokens,
            seconds=event.seconds,
            first_token=event.time_to_first_token,
            cost=teacher.cost if teacher else None,
            currency=teacher.currency if teacher else None,
        )
        self.session.merge(row)
        self.session.flush()

    def spent(self, project: str, day: date, ids: Collection[str]) -> tuple[float, set[str]]:
        """Money for a project's teacher on a day, and which of these requests are known."""
        costs = select(func.sum(AnswerRow.cost)).where(
            AnswerRow.project == project,
            col(AnswerRow.at) >= begins(day),
            col(AnswerRow.at) < begins(day + timedelta(days=1)),
        )
        known = select(AnswerRow.request_id).where(col(AnswerRow.request_id).in_(ids)) if ids else None
        return self.session.exec(costs).one() or 0.0, set(
            self.session.exec(known).all()
        ) if known is not None else set()

    def answered(self, project: str, since: datetime) -> list[Answered]:
        """What each answerer of a project did since then, the busiest first."""
        answer = _table()
        mine = (answer.c.project == project, answer.c.at >= since)
        by = (answer.c.answerer, answer.c.teacher, answer.c.currency)
        failed = func.count().filter(answer.c.status == "error")
        tokens = func.sum(answer.c.prompt_tokens), func.sum(answer.c.completion_tokens)
        sums = columns(*by, func.count(), failed, *tokens, func.sum(answer.c.cost)).where(*mine).group_by(*by)
        found: list[Answered] = []
        for name, teacher, currency, *counts, cost in self.session.connection().execute(sums).all():
            own = (
                *mine,
                answer.c.status == "ok",
                by[0] == name,
                by[1] == teacher,
                by[2].is_not_distinct_from(currency),
            )
            times = columns(answer.c.seconds, answer.c.first_token).where(*own).order_by(answer.c.at.desc())
            rows = self.session.connection().execute(times.limit(SAMPLE)).all()
            firsts = sorted(first for _, first in rows if first is not None)
            answers, wrong, prompt, completion = (int(count) for count in counts)
            given = (name, bool(teacher), answers, wrong, prompt, completion, cost, currency)
            found.append(Answered(*given, sorted(seconds for seconds, _ in rows), firsts))
        return sorted(found, key=lambda each: (-each.answers, each.by))


def horizons(days: float) -> tuple[Horizon, ...]:
    """For so long figures of answers are kept."""
    return (Horizon(_table(), _table().c.at, timedelta(days=days)),)


def _table() -> Table:
    return cast(Table, getattr(AnswerRow, "__table__"))  # noqa: B009 - SQLModel's types do not know the attribute
