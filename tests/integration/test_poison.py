"""Poison between good messages on a real broker and both databases: each ends dead with its reason or done."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import poison_run
from tests.integration.tiny.stand import Stand

HIGHEST_BYTES = 300_000_000
"""The service rests at about 110 MB; four batches that unpack to 60 MB each, and twelve of 16 MB in one fetch, come on top."""


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
    assert outcome.highest_bytes < HIGHEST_BYTES
