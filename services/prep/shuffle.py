"""Sorts more rows than memory holds: rows go to files by where they belong, and each file is sorted alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from services.prep.domain.arrow import Table


class Shuffle:
    """Files of rows, the rows of a later file behind those of an earlier one."""

    def __init__(self, folder: Path, buckets: int) -> None:
        folder.mkdir()
        self._paths = [folder / f"{i:03}.arrow" for i in range(buckets)]
        self._writers: dict[int, Any] = {}

    def add(self, batch: Any, place: Any) -> None:
        """Takes rows in; `place` of each is in [0, 1), in the order that is wanted."""
        buckets = np.minimum((place * len(self._paths)).astype(np.int64), len(self._paths) - 1)
        order = np.argsort(buckets, kind="stable")
        ordered = batch.take(pa.array(order)) if len(self._paths) > 1 else batch
        bounds = np.searchsorted(buckets[order], np.arange(len(self._paths) + 1))
        for bucket in np.flatnonzero(np.diff(bounds)).tolist():
            self._write(bucket, ordered.slice(bounds[bucket], bounds[bucket + 1] - bounds[bucket]))

    def _write(self, bucket: int, rows: Any) -> None:
        if bucket not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writers[bucket] = pa.ipc.new_stream(self._paths[bucket], rows.schema, options=options)
        self._writers[bucket].write(rows)

    def close(self) -> None:
        """Ends the writing."""
        for writer in self._writers.values():
            writer.close()

    def tables(self) -> Iterator[Table]:
        """Each file's rows, in the order of the files; a file is gone when the next one is asked for."""
        for bucket in sorted(self._writers):
            with pa.ipc.open_stream(self._paths[bucket]) as reader:
                yield reader.read_all()
            self._paths[bucket].unlink()
