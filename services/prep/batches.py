"""Rows of a query in batches that fit in memory, whatever the length of each."""

from collections.abc import Iterator
from typing import Any

BATCH_BYTES, MOST_ROWS = 16_000_000, 10_000


def sized(result: Any) -> Iterator[list[Any]]:
    """Rows with a text `record`, in batches of about `BATCH_BYTES` by the length of the ones before."""
    size = 100
    while rows := result.fetchmany(size):
        yield rows
        size = min(MOST_ROWS, max(1, BATCH_BYTES * len(rows) // max(1, sum(len(row.record) for row in rows))))
