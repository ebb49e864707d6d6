"""A message that died in its handler takes effect once when its letter is redriven, on SQLite and PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.chassis import parking, retry
from services.chassis.database import writing
from services.chassis.intake import Intake, take
from services.chassis.messages import letter_id
from services.chassis.redrive import HEADER
from tests.unit.chassis.records import Record, ping
from tests.unit.chassis.test_intake import notes, published


def dead(engine: Engine) -> list[Any]:
    return [row for row in published(engine) if row.topic.endswith(".dlq")]


def redriven(record: Record, letter: str, offset: int) -> Record:
    return replace(record, offset=offset, headers=[*record.headers, (HEADER, letter.encode())])


def give_up(intake: Intake) -> None:
    with writing(intake.engine) as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(parking.PARKED.update().values(retry_at=past))
    retry.try_due(intake)


@pytest.fixture
def died(intake: Intake, tmp_path: Path) -> tuple[Record, Path]:
    """A message whose handler failed for good, and the file that mends it."""
    record, mended = ping(1, "fragile", str(tmp_path / "mended")), tmp_path / "mended"
    take(intake, [record])
    for _ in range(2):
        give_up(intake)
    assert len(dead(intake.engine)) == 1
    return record, mended


def test_redriven_message_takes_effect_once_whatever_comes_twice(intake: Intake, died: tuple[Record, Path]) -> None:
    record, mended = died
    mended.touch()
    again = redriven(record, letter_id(record, intake.group), 50)
    take(intake, [again, again])
    take(intake, [again, replace(again, offset=51), record])
    assert notes(intake.engine) == [1]
    assert len(dead(intake.engine)) == 1


@pytest.mark.parametrize("letter", ["", "5f0d6c1e-3c4e-5d0a-9b7e-2a1f4c8e9d10"])
def test_forged_header_makes_nothing_new(intake: Intake, died: tuple[Record, Path], letter: str) -> None:
    record, mended = died
    mended.touch()
    take(intake, [redriven(record, letter, 50)])
    assert notes(intake.engine) == []


def test_real_letter_admits_no_other_message(intake: Intake, died: tuple[Record, Path]) -> None:
    letter = letter_id(died[0], intake.group)
    take(intake, [ping(2)])
    take(intake, [redriven(ping(2), letter, 50)])
    assert notes(intake.engine) == [2]
    died[1].touch()
    take(intake, [redriven(died[0], letter, 51)])
    assert notes(intake.engine) == [2, 1]


def test_message_that_dies_again_is_a_new_letter_and_can_be_redriven_again(
    intake: Intake, died: tuple[Record, Path]
) -> None:
    record, mended = died
    first = letter_id(record, intake.group)
    again = redriven(record, first, 50)
    take(intake, [again])
    for _ in range(2):
        give_up(intake)
    assert len(dead(intake.engine)) == 2
    mended.touch()
    take(intake, [replace(again, offset=51)])
    assert notes(intake.engine) == []
    take(intake, [redriven(record, letter_id(again, intake.group), 52)])
    assert notes(intake.engine) == [1]


def test_message_that_its_handler_never_wants_dies_again(intake: Intake) -> None:
    record = ping(1, "dead")
    take(intake, [record])
    take(intake, [redriven(record, letter_id(record, intake.group), 50)])
    assert len(dead(intake.engine)) == 2
    take(intake, [record])
    assert len(dead(intake.engine)) == 2
