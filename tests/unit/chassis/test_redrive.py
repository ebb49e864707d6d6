"""A message that died in its handler takes effect once when its letter is redriven, on SQLite and PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.chassis.messaging import parking, retry
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.messaging.messages import dead_letter_id
from services.chassis.messaging.redrive import HEADER
from services.chassis.storage.database import writing
from tests.unit.chassis.records import Record, ping
from tests.unit.chassis.test_batch import notes, published


def dead(engine: Engine) -> list[Any]:
    return [row for row in published(engine) if row.topic.endswith(".dlq")]


def redriven(record: Record, letter: str, offset: int) -> Record:
    return replace(record, offset=offset, headers=[*record.headers, (HEADER, letter.encode())])


def give_up(context: BatchContext) -> None:
    with writing(context.engine) as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(parking.PARKED.update().values(retry_at=past))
    retry.try_due(context)


@pytest.fixture
def died(context: BatchContext, tmp_path: Path) -> tuple[Record, Path]:
    """A message whose handler failed for good, and the file that mends it."""
    record, mended = ping(1, "fragile", str(tmp_path / "mended")), tmp_path / "mended"
    take(context, [record])
    for _ in range(2):
        give_up(context)
    assert len(dead(context.engine)) == 1
    return record, mended


def test_redriven_message_takes_effect_once_whatever_comes_twice(
    context: BatchContext, died: tuple[Record, Path]
) -> None:
    record, mended = died
    mended.touch()
    again = redriven(record, dead_letter_id(record, context.group), 50)
    take(context, [again, again])
    take(context, [again, replace(again, offset=51), record])
    assert notes(context.engine) == [1]
    assert len(dead(context.engine)) == 1


@pytest.mark.parametrize("letter", ["", "5f0d6c1e-3c4e-5d0a-9b7e-2a1f4c8e9d10"])
def test_forged_header_makes_nothing_new(context: BatchContext, died: tuple[Record, Path], letter: str) -> None:
    record, mended = died
    mended.touch()
    take(context, [redriven(record, letter, 50)])
    assert notes(context.engine) == []


def test_real_letter_admits_no_other_message(context: BatchContext, died: tuple[Record, Path]) -> None:
    letter = dead_letter_id(died[0], context.group)
    take(context, [ping(2)])
    take(context, [redriven(ping(2), letter, 50)])
    assert notes(context.engine) == [2]
    died[1].touch()
    take(context, [redriven(died[0], letter, 51)])
    assert notes(context.engine) == [2, 1]


def test_message_that_dies_again_is_a_new_letter_and_can_be_redriven_again(
    context: BatchContext, died: tuple[Record, Path]
) -> None:
    record, mended = died
    first = dead_letter_id(record, context.group)
    again = redriven(record, first, 50)
    take(context, [again])
    for _ in range(2):
        give_up(context)
    assert len(dead(context.engine)) == 2
    mended.touch()
    take(context, [replace(again, offset=51)])
    assert notes(context.engine) == []
    take(context, [redriven(record, dead_letter_id(again, context.group), 52)])
    assert notes(context.engine) == [1]


def test_message_that_its_handler_never_wants_dies_again(context: BatchContext) -> None:
    record = ping(1, "dead")
    take(context, [record])
    take(context, [redriven(record, dead_letter_id(record, context.group), 50)])
    assert len(dead(context.engine)) == 2
    take(context, [record])
    assert len(dead(context.engine)) == 2
