"""A group moved back: its messages come again and have no second effect; one with members is left alone. A log read on."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.replay.rebuild import Rebuilding
from services.chassis.storage import database
from tests.integration.tiny.events import Ping
from tests.integration.tiny.harness import Harness, until
from tests.integration.tiny.service import TinySettings, make_service


@pytest.fixture
def harness(kafka: str, tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path, partitions=1)
    harness.make_topics()
    yield harness.start()
    harness.stop()


def replay(harness: Harness, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "services.cli.app", "replay", "--topic", harness.ping, "--group", harness.group]
    done = subprocess.run(
        [*command, *arguments, "--json"], env=harness.environment, capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout)


def test_messages_come_again_and_have_no_second_effect(harness: Harness) -> None:
    harness.send(*(harness.ping_of(n) for n in range(20)))
    until(harness.notes, lambda found: len(found) == 20)
    until(harness.lag, lambda lag: lag == 0)
    status, said = replay(harness, "--from", "5")
    assert (status, said["error"]["code"]) == (1, "group_is_active")
    harness.stop()
    status, said = until(lambda: replay(harness, "--from", "5", "--dry-run"), lambda found: found[0] == 0)
    assert (said["moved"], said["items"][0]["committed"], said["items"][0]["again"]) == (False, 20, 15)
    assert harness.lag() == 0
    status, said = until(lambda: replay(harness, "--from", "1h"), lambda found: found[0] == 0)
    assert (said["moved"], said["items"][0]["to"]) == (True, 0)
    assert harness.lag() == 20
    harness.start()
    until(lambda: harness.figure("duplicates_total"), lambda count: count == 20)
    harness.send(harness.ping_of(20))
    until(harness.notes, lambda found: found == list(range(21)))


def test_what_cannot_be_is_refused(harness: Harness) -> None:
    assert replay(harness, "--from", "yesterday")[0] == 2
    assert replay(harness)[0] == 2
    assert replay(harness, "prep", "--from", "0")[0] == 2


def test_what_the_inbox_has_forgotten_does_not_come_again_unasked(harness: Harness) -> None:
    harness.send(*(harness.ping_of(n) for n in range(3)))
    until(harness.lag, lambda lag: lag == 0)
    harness.stop()
    harness.environment["NORIA_INBOX_DAYS"] = "1e-9"
    status, said = until(lambda: replay(harness, "--from", "1"), lambda found: found[1]["error"]["code"] == "forgotten")
    assert (status, "2 messages are older" in said["error"]["message"]) == (1, True)
    status, said = until(lambda: replay(harness, "--from", "1", "--twice"), lambda found: found[0] == 0)
    assert (said["moved"], said["items"][0]["forgotten"]) == (True, 2)


def test_a_rebuilding_reads_on_where_it_was(harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ping, "TOPIC", harness.ping)
    harness.send(*(harness.ping_of(n) for n in range(3)))
    engine = database.open_sqlite(f"sqlite:///{tmp_path / 'rebuilt.db'}", synchronous="OFF")
    rebuilding = Rebuilding(make_service(TinySettings(kafka_bootstrap=harness.kafka)), engine)
    assert (rebuilding.take(), rebuilding.take()) == (3, 0)
    harness.send(*(harness.ping_of(n) for n in range(3, 5)))
    assert (rebuilding.take(), rebuilding.take(), rebuilding.messages) == (2, 0, 5)
    with database.reading(engine) as connection:
        assert [n for (n,) in connection.exec_driver_sql("SELECT number FROM note ORDER BY place")] == list(range(5))
    engine.dispose()
