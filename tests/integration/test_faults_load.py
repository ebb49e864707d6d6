"""Ten times what the handlers take: memory stays bounded, the lag rises and falls to 0, nothing is refused or lost."""

import time
from pathlib import Path

from tests.integration.tiny.harness import Harness, until

MOST_GROWTH = 192 << 20
"""Bytes, half of what is sent: two fetches of 4 MiB for each of 3 partitions, a batch as bytes, text and rows, and what
the allocator keeps. Measured: 122 to 154 MiB more than the 127 MiB before, the same for half the load."""


def test_ten_times_the_load_is_worked_off_with_bounded_memory(kafka: str, tmp_path: Path) -> None:
    total, size = 20_000, 20_000
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    harness.make_topics()
    harness.start()
    harness.send(*(harness.ping_of(n, "slow", "x" * size, key=f"k{n % 7}") for n in range(500)))
    until(harness.notes, lambda found: len(found) == 500)
    before, begun = harness.memory(), time.monotonic()
    for first in range(500, total, 500):
        harness.send(*(harness.ping_of(n, "slow", "x" * size, key=f"k{n % 7}") for n in range(first, first + 500)))
    sent, most, highest = time.monotonic() - begun, 0, 0.0
    while harness.figure("done_total") < total:  # to list the notes would take more memory than to make them
        most = max(most, harness.memory())
        highest = max(highest, harness.figure("lag"))
        assert time.monotonic() - begun < 120
        time.sleep(0.1)
    print(f"sent in {sent:.1f} s, done in {time.monotonic() - begun:.1f} s, lag up to {highest:.0f}, ", end="")
    print(f"memory {before >> 20} MiB and {(most - before) >> 20} MiB more at most")
    assert highest > total / 3
    assert most - before < MOST_GROWTH
    until(lambda: harness.figure("lag"), lambda lag: lag == 0)
    until(harness.lag, lambda lag: lag == 0)
    numbers = harness.notes()
    assert all([n for n in numbers if n % 7 == key] == list(range(key, total, 7)) for key in range(7))
    assert harness.figure("dead_total") == 0
    harness.stop()
