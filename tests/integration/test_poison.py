"""Poison between good messages on a real broker and both databases: dead with its reason or done, in bounded memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import poison_run
from tests.integration.tiny.stand import Stand


@pytest.fixture
def stand(kafka: str, database_url: str, tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(kafka, database_url, tmp_path)
    poison_run.prepare(stand)
    yield stand.start()
    stand.stop()


def test_poison_ends_dead_with_its_reason_and_disturbs_nothing(stand: Stand) -> None:
    outcome = poison_run.run(stand, poison_run.mixed(stand.ping, 1, 3000), 40)
    assert outcome.faults == []
    assert outcome.bombs == len(poison_run.CODECS)
    assert outcome.fates["good", "done"] == sum(count for (sort, _), count in outcome.fates.items() if sort == "good")
