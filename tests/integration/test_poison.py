"""Poison between good messages on a real broker and both databases: dead with its reason or done, in bounded memory."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import poison_run
from tests.integration.tiny.harness import Harness


@pytest.fixture
def harness(kafka: str, database_url: str, tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(kafka, database_url, tmp_path)
    poison_run.prepare(harness)
    yield harness.start()
    harness.stop()


def test_poison_ends_dead_with_its_reason_and_disturbs_nothing(harness: Harness) -> None:
    outcome = poison_run.run(harness, poison_run.mixed(harness.ping, 1, 3000), 40)
    assert outcome.faults == []
    assert outcome.bombs == len(poison_run.CODECS)
    assert outcome.fates["good", "done"] == sum(count for (sort, _), count in outcome.fates.items() if sort == "good")


@pytest.mark.parametrize("target", ["envelope", "batch", "lines", "yaml"])
def test_fuzzed_parser_of_foreign_bytes_does_not_crash(target: str) -> None:
    """Two seconds find what is broken for all; a long run is made by hand."""
    command = [sys.executable, "-m", "tests.chaos.poison_fuzz", target, "--seconds", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "Done" in ended.stderr  # libFuzzer's count of what it ran
