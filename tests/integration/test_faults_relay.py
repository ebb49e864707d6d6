"""The relay against a real broker that refuses, and against its own zombie: nothing blocks, nothing is lost."""

from pathlib import Path

from tests.integration.tiny.harness import Harness, until

TOO_LARGE_FOR_THE_BROKER = "1500000"


def test_message_that_the_broker_itself_refuses_does_not_block_the_rest(kafka: str, tmp_path: Path) -> None:
    """aiokafka lets it pass, the broker does not, and the sequence numbers of the partition have a gap after it."""
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    harness.make_topics()
    harness.start()
    harness.send(*(harness.ping_of(n, "boast", TOO_LARGE_FOR_THE_BROKER if n % 5 == 2 else "1") for n in range(20)))
    answers = harness.answers(16)
    assert {number for number, _ in answers.values()} == {n for n in range(20) if n % 5 != 2}
    until(lambda: harness.figure("outbox_failed"), lambda count: count == 4)
    until(lambda: harness.figure("outbox_waiting"), lambda waiting: waiting == 0)
    harness.stop()
