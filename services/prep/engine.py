"""Daft, which maps functions over columns: in this process and its children, or on a Ray cluster by one setting."""

# ruff: noqa: E402 - Daft reads the environment when it is imported

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("DO_NOT_TRACK", "true")  # before the import: Daft would tell its makers of every start
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
# Daft would export spans of its own by the same variables, and panics at some values (0.7.26: gzip over gRPC). What a freeze
# does is told by the service, not by its job's process.
for _name in [name for name in os.environ if name.startswith("OTEL_")]:
    del os.environ[_name]

import daft
import numpy as np
import pyarrow as pa

from services.prep import ray_cluster
from services.prep.domain.arrow import Batch, Column, Schema
from services.prep.domain.near.buckets import HASHES, Values

MANY = 20_000
"""From so many records on, functions run in processes of their own; below, their start takes longer than the work."""
BYTES_AT_ONCE, MOST_ROWS = 8_000_000, 5_000
"""Of records that a function gets at once."""
Function = Callable[..., Column]


@cache
def start(ray_address: str | None) -> None:
    """Chooses where Daft computes, once a process: here, or on the Ray cluster at the address (JobFailed: ray_cluster.py)."""
    if ray_address:
        ray_cluster.connect(ray_address)
    else:
        daft.set_runner_native()


def mapped(
    paths: Sequence[Path],
    kept: Sequence[str],
    function: Function,
    columns: Sequence[str],
    schema: Schema,
    rows: int,
    size: int,
) -> Iterator[Batch]:
    """The columns `kept` of Parquet files, each row with what `function` makes of `columns`, a struct of `schema`.

    `rows` of `size` bytes altogether are expected. Batches come in any order.
    """
    fields = {field.name: daft.DataType.from_arrow_type(field.type) for field in schema}
    at_once = max(1, min(MOST_ROWS, BYTES_AT_ONCE * rows // max(1, size)))

    def on_series(*given: daft.Series) -> Column:
        return function(*(_array(series) for series in given))

    options: dict[str, Any] = {"use_process": True} if rows >= MANY else {}
    made = daft.func.batch(return_dtype=daft.DataType.struct(fields), unnest=True, batch_size=at_once, **options)(
        on_series
    )
    frame = daft.read_parquet([str(path) for path in paths])
    others = [frame[name] for name in kept if name not in fields]
    with ray_cluster.watched():
        yield from frame.select(*others, made(*(frame[name] for name in columns))).to_arrow_iter(results_buffer_size=2)


def minhash(texts: Column) -> Values:
    """The MinHash signatures of the sets of words of texts, which stand with one space between each."""
    frame = daft.from_arrow(pa.table({"text": texts}))
    signatures = frame["text"].minhash(num_hashes=HASHES, ngram_size=1, seed=1, hash_function="xxhash3_64")
    with ray_cluster.watched():
        found = frame.select(signatures).to_arrow()
    values = found.column(0).combine_chunks()
    return np.asarray(values.flatten()).reshape(-1, HASHES)


def _array(series: daft.Series) -> Column:
    return series.to_arrow()
