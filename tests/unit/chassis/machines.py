"""What the state machines share: their profile, a crash, and an empty database for each example."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from sqlalchemy import Engine, event, text
from structlog.testing import capture_logs

from services.chassis.storage.database import writing

TABLES = ("note", "inbox", "outbox", "parked", "job", "fair_share", "lease")


class Crash(BaseException):
    """The process dies here; a BaseException, so that no handler of faults sees it."""


def explore(engine: Engine, machine: type[RuleBasedStateMachine], examples: int, steps: int = 30) -> None:
    """Runs the machine the same way each time.

    MACHINE_EXAMPLES multiplies the examples, makes them random and shrinks what fails, which takes minutes.
    """
    more = int(os.environ.get("MACHINE_EXAMPLES", "0"))
    fewer = 1 if engine.dialect.name == "sqlite" else 5
    profile = settings(
        max_examples=max(1, examples * (more or 1) // fewer),
        stateful_step_count=steps,
        derandomize=not more,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if more else [Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
    )
    with capture_logs():  # to render so many faults takes longer than all the rest
        run_state_machine_as_test(machine, settings=profile)


def empty(engine: Engine) -> None:
    """Takes every row away."""
    with writing(engine) as connection:
        for table in TABLES:
            connection.execute(text(f"DELETE FROM {table}"))


@contextmanager
def dying_at_commit(engine: Engine) -> Generator[None]:
    """The process dies when a transaction is about to be committed: nothing of it stands."""

    def die(_: Any) -> None:
        raise Crash

    event.listen(engine, "commit", die)
    try:
        yield
    finally:
        event.remove(engine, "commit", die)
