"""Two instances on one PostgreSQL: members come, stop, wake up as zombies and go, while jobs and messages run."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tiny.harness import Harness, until

KEYS = 7


@pytest.fixture
def harness(kafka: str, database: str, tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(kafka, database, tmp_path, partitions=4)
    harness.make_topics()
    yield harness
    harness.stop()


def send(harness: Harness, numbers: range) -> None:
    harness.send(*(harness.ping_of(n, key=f"k{n % KEYS}") for n in numbers))


def check(harness: Harness, total: int) -> None:
    """Each message had its effect and its answer once, in the order of its key."""
    notes = until(harness.notes, lambda found: len(found) >= total, 60)
    until(harness.lag, lambda lag: lag == 0, 60)
    assert Counter(harness.notes()) == Counter(range(total))
    for key in range(KEYS):
        mine = [number for number in notes if number % KEYS == key and number < 9000]
        assert mine == sorted(mine)
    until(lambda: harness.figure("outbox_waiting"), lambda waiting: waiting == 0)


def test_member_that_slept_through_its_session_does_no_harm_as_a_zombie(harness: Harness) -> None:
    """It is stopped amid a backlog and a job, for longer than its session (10 s) and its leases (4 s).

    At first its open transaction on PostgreSQL kept the rows that its successor needed, for as long as it slept.
    """
    twin = harness.twin()
    harness.start()
    harness.send(harness.ping_of(0, "work", "0.5", key="k0"))
    until(lambda: list(harness.home.glob(f"state/jobs/{harness.name}/job*/step")), bool)
    send(harness, range(1, 2000))
    until(harness.notes, lambda found: len(found) > 50)
    assert harness.process is not None
    harness.process.send_signal(signal.SIGSTOP)
    try:
        twin.start(ready=False)
        until(twin.notes, lambda found: len(found) >= 2000, 60)
        answers = twin.answers(2000, 60)  # the zombie held the relay's lease, too
    finally:
        harness.process.send_signal(signal.SIGCONT)
    send(harness, range(2000, 2500))
    check(harness, 2500)
    answers = harness.answers(2500)
    assert len(answers) == 2500
    assert Counter(number for number, _ in answers.values()) == Counter(range(2500))
    until(harness.trouble, lambda trouble: trouble == "", 60)
    twin.stop()


def test_members_come_and_go_while_messages_and_a_job_run(harness: Harness) -> None:
    twin = harness.twin()
    harness.start()
    harness.send(harness.ping_of(0, "work", "0.6", key="k0"))
    for turn in range(3):
        send(harness, range(1 + 400 * turn, 401 + 400 * turn))
        twin.start(ready=False)
        until(twin.trouble, lambda trouble: trouble == "")
        if turn % 2:
            twin.kill()
        else:
            twin.stop()
    check(harness, 1201)
    answers = harness.answers(1201, 60)
    assert Counter(number for number, _ in answers.values()) == Counter(range(1201))
    assert [text for number, text in answers.values() if number == 0] == ["done from 0 to 10"]
