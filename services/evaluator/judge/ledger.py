"""Every request to a judge as a row: the verdict that need not be asked again, and what the day has cost so far.

A row is written before its request is sent, with the most that it may cost, and again with what came of it. So a kill at any
moment leaves the day's spending no lower than it was, and loses of verdicts only those under way.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, Engine, func, insert, update
from sqlmodel import col, select

from contracts.judge import Judge
from services.chassis.storage.database import reading, writing
from services.evaluator.store import JudgeCallRow

_NOTHING = {"win": None, "prompt_tokens": 0, "completion_tokens": 0}
_AT_ONCE = 500
"""Keys in one statement."""


class Spent(NamedTuple):
    """What a request came to; `win` is None where it brought no verdict."""

    win: float | None
    prompt_tokens: int
    completion_tokens: int
    cost: float


def _alone(connection: Connection, project: str) -> None:
    """Until the transaction ends no other one reserves for the project; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        lock = func.pg_advisory_xact_lock(func.hashtext(f"judge {project}"))
        connection.execute(select(lock))


class Ledger(Protocol):
    """What is asked of the rows; by several threads at once."""

    def known(self, keys: Sequence[str]) -> dict[str, float]:
        """The verdicts that there are, by key."""
        ...

    def reserve(self, key: str, judge: Judge, cost: float) -> int | str:
        """The number of a request that may be sent now and cost so much at most, or why none may."""
        ...

    def settle(self, number: int, spent: Spent) -> None:
        """Writes what became of it."""
        ...


class SqlLedger:
    """`Ledger` of one project in the service's database."""

    def __init__(self, engine: Engine, project: str) -> None:
        self._engine, self._project = engine, project

    def known(self, keys: Sequence[str]) -> dict[str, float]:
        """The verdicts that there are, by key, whichever project paid for them."""
        found: dict[str, float] = {}
        key, win = col(JudgeCallRow.key), col(JudgeCallRow.win)
        with reading(self._engine) as connection:
            for start in range(0, len(keys), _AT_ONCE):
                rows = select(key, win).where(key.in_(keys[start : start + _AT_ONCE]), win.is_not(None))
                found |= {row.key: row.win for row in connection.execute(rows)}
        return found

    def reserve(self, key: str, judge: Judge, cost: float) -> int | str:
        """The number of a request that may be sent now, or why none may: the day's requests or its budget are spent."""
        now = datetime.now(UTC)
        midnight = datetime.combine(now.date(), time(), UTC)
        today = col(JudgeCallRow.project) == self._project, col(JudgeCallRow.asked_at) >= midnight
        sums = select(func.count(), func.coalesce(func.sum(col(JudgeCallRow.cost)), 0.0)).select_from(JudgeCallRow)
        with writing(self._engine) as connection:
            _alone(connection, self._project)
            calls, spent = connection.execute(sums.where(*today)).one()
            if calls >= judge.calls:
                return f"the {judge.calls} requests a day to the judge are used up"
            if judge.budget is not None and spent + cost > judge.budget:
                currency = judge.price.currency if judge.price else ""
                return f"the budget of {judge.budget:g} {currency} a day for the judge is spent"
            made = insert(JudgeCallRow).values(key=key, project=self._project, asked_at=now, cost=cost, **_NOTHING)
            return int(connection.execute(made.returning(col(JudgeCallRow.number))).scalar_one() or 0)

    def settle(self, number: int, spent: Spent) -> None:
        """Writes what became of it."""
        with writing(self._engine) as connection:
            connection.execute(update(JudgeCallRow).where(col(JudgeCallRow.number) == number).values(**spent._asdict()))
