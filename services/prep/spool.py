"""A freeze's records on disk, and their columns in memory: what does not fit there is read again in batches.

Records go through two files: by record with what was measured, and their words alone.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from contracts.preparation import Prep
from services.prep.domain.arrow import Batch, Column, Schema, Table, compute
from services.prep.domain.frame import Frame, Texts
from services.prep.domain.measure import RAW
from services.prep.domain.splits import basis, sides
from services.prep.shuffle import Shuffle

RECORD = (*RAW.names, "digest", "prompt_key")
LIGHT = ("content_0", "content_1", "prompt_0", "prompt_1", "said", "characters", "kind")
ROWS_A_BUCKET, BYTES_A_BUCKET = 50_000, 64_000_000


class Spool:
    """Measured records as they come."""

    def __init__(self, folder: Path, rows: int, size: int, prep: Prep) -> None:
        """`rows` of `size` bytes altogether are expected."""
        folder.mkdir()
        buckets = 1 + max(rows // ROWS_A_BUCKET, size // BYTES_A_BUCKET)
        self._texts = folder / "texts.arrow"
        self.records = Shuffle(folder / "records", min(256, buckets))
        self._schema: Schema = None
        self._ids: list[Column] = []
        self._prep = prep
        self._columns: dict[str, list[Any]] = {name: [] for name in LIGHT}
        self._basis: dict[str, list[Any]] = {}
        self._rows = 0

    def fill(self, batches: Iterable[Batch], texts: tuple[str, ...]) -> None:
        """Takes all records in. Of `texts` are the columns that are read again alone."""
        writer = None
        for batch in batches:
            at = pa.array(np.arange(self._rows, self._rows + batch.num_rows))
            self._rows += batch.num_rows
            if writer is None:
                self._schema = pa.schema([batch.schema.field(name) for name in texts])
                writer = pa.ipc.new_stream(self._texts, self._schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))
            writer.write_batch(batch.select(list(texts)))
            self._ids.append(_strings(batch.column("record_id")))
            for name, parts in self._columns.items():
                parts.append(np.asarray(batch.column(name)))
            for name, part in basis(batch, self._prep).items():
                self._basis.setdefault(name, []).append(part)
            heavy = [name for name in batch.schema.names if name in RECORD]
            place = _leading(batch.column("digest"))
            self.records.add(batch.select(heavy).append_column("at", at), place)
        self.records.close()
        if writer is not None:
            writer.close()

    def frame(self, trained: Any) -> tuple[Frame, Any]:
        """The columns by record_id, and the row of each record as it came. `trained` are keys that stay in train (splits.py)."""
        ids = pa.chunked_array(self._ids, pa.string()).combine_chunks()
        self._ids.clear()
        order = np.asarray(compute.sort_indices(ids)).astype(np.int64)
        columns = {
            name: np.concatenate(parts)[order] if parts else np.empty(0, np.uint64)
            for name, parts in self._columns.items()
        }
        self._columns.clear()
        row_of = np.empty(len(order), np.int64)
        row_of[order] = np.arange(len(order))
        found = {name: np.concatenate(parts)[order] for name, parts in self._basis.items()}
        split = sides(columns["prompt_0"], found, self._prep, trained)
        return Frame(ids.take(pa.array(order)), split, columns, lambda name: self._read(name, row_of)), row_of

    def _read(self, column: str, row_of: Any) -> Texts:
        if not len(row_of):
            return
        begin = 0
        field = self._schema.get_field_index(column)
        with pa.ipc.open_stream(self._texts, options=pa.ipc.IpcReadOptions(included_fields=[field])) as reader:
            for table in _gathered(reader):
                yield row_of[begin : begin + len(table)], _strings(table.column(column))
                begin += len(table)


def _gathered(batches: Iterable[Batch], rows: int = 20_000, size: int = 16_000_000) -> Iterator[Table]:
    """The same rows in larger parts."""
    some: list[Batch] = []
    for batch in batches:
        some.append(batch)
        if sum(b.num_rows for b in some) >= rows or sum(b.nbytes for b in some) >= size:
            yield pa.Table.from_batches(some)
            some = []
    if some:
        yield pa.Table.from_batches(some)


def _strings(column: Any) -> Column:
    """As one array of `string`."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.cast(pa.string())


def _leading(digests: Any) -> Any:
    """The share of the way from the first possible digest to the last, in [0, 1)."""
    leading = compute.utf8_slice_codeunits(_strings(digests), 0, 4)
    return np.array([int(text, 16) for text in leading.to_pylist()]) / 16**4
