"""A project's records as files that a freeze reads: segments as they lie, worn ones written anew, and the tail.

Where the tail is long, its files become segments: the freeze stores them, and its result has the service take them in.
"""

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, Engine

from services.chassis.errors import ArtifactCorrupt, ArtifactMissing, JobFailed
from services.chassis.storage.artifacts import ArtifactStore
from services.chassis.storage.database import reading
from services.prep import segments
from services.prep.domain.arrow import Batch, compute
from services.prep.domain.compaction import Segment, grouped, worn
from services.prep.domain.measure import RAW

SEGMENT = pa.schema([*RAW, pa.field("shape", pa.string()), pa.field("sent", pa.string())])
"""A segment's columns: a record as it lies in the store, and as it came where it was converted."""
FILE_BYTES = 64_000_000
"""Of records, unpacked, that a file holds."""
AT_ONCE = 200_000
"""Once so many rows of the tail are in segments, the next freeze goes on: writers wait while they are emptied, a second."""
Taken = dict[str, list[int]]
"""Shard -> first and last sequence."""
NOWHERE: Taken = {}


@dataclass(frozen=True, slots=True)
class File:
    """A Parquet file of records, `RAW` and perhaps more; `size` are the bytes of its records, unpacked."""

    path: Path
    rows: int
    size: int


@dataclass(slots=True)
class Source:
    """Where all records of a project are read, each in its newest revision, and what the service is to take in."""

    files: list[File] = field(default_factory=list[File])
    made: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """See segments.take_in."""
    gone: list[int] = field(default_factory=list[int])

    @property
    def rows(self) -> int:
        """How many records."""
        return sum(file.rows for file in self.files)

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(file.size for file in self.files)

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [file.path for file in self.files]


@contextmanager
def snapshot(engine: Engine) -> Generator[Connection]:
    """A transaction that reads one state of the database, whatever others commit meanwhile."""
    if engine.dialect.name == "postgresql":  # SQLite's transactions are so
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with reading(engine) as connection:
        yield connection


def read(connection: Connection, project: str, artifacts: ArtifactStore, folder: Path, least: int) -> Source:
    """All records of the project, in a `snapshot`; files are written into the new folder. A tail of `least` rows is compacted.

    Raises:
        JobFailed: `segment_missing` or `segment_altered`.
    """
    folder.mkdir()
    source, held = Source(), segments.segments(connection, project)
    renewed = worn(held, FILE_BYTES)
    source.gone = [segment.number for segment in renewed]
    for segment in held:
        if segment not in renewed:
            source.files += _kept(connection, project, segment, artifacts, folder)
    for group in grouped((segment for segment in renewed if segment.live), FILE_BYTES):
        batches = ((batch, NOWHERE) for one in group for batch in _live(connection, project, one, artifacts))
        [(file, _)] = _written(batches, folder / f"renewed-{group[0].number}", SEGMENT, sys.maxsize)
        source.files.append(file)
        source.made.append(_stored(file, artifacts) | {"of": [segment.number for segment in group]})
    compacted, moved = segments.tail_rows(connection, project) >= least, 0
    rows = ((_batch(rows), _places(rows)) for rows in segments.tail(connection, project))
    for file, taken in _written(rows, folder / "tail", SEGMENT if compacted else RAW, FILE_BYTES):
        source.files.append(file)
        if compacted and moved < AT_ONCE:
            source.made.append(_stored(file, artifacts) | {"taken": taken})
            moved += file.rows
    return source


def _kept(
    connection: Connection, project: str, segment: Segment, artifacts: ArtifactStore, folder: Path
) -> Iterable[File]:
    """A segment as it lies, or what is live in it."""
    if segment.live == segment.rows:
        return (File(_path(segment, artifacts), segment.rows, segment.size),)
    batches = ((batch, NOWHERE) for batch in _live(connection, project, segment, artifacts))
    return (file for file, _ in _written(batches, folder / f"live-{segment.number}", SEGMENT, sys.maxsize))


def _path(segment: Segment, artifacts: ArtifactStore) -> Path:
    try:
        return artifacts.get(segment.artifact)
    except ArtifactMissing as error:
        raise JobFailed("segment_missing", f"segment {segment.number} of records: {error}") from error
    except ArtifactCorrupt as error:
        raise JobFailed("segment_altered", f"segment {segment.number} of records: {error}") from error


def _live(connection: Connection, project: str, segment: Segment, artifacts: ArtifactStore) -> Iterator[Batch]:
    """The rows whose record has no newer revision."""
    live = pa.array(segments.held(connection, project, segment.number), pa.string())
    with pq.ParquetFile(_path(segment, artifacts)) as file:
        for batch in file.iter_batches():
            yield batch.filter(compute.is_in(batch.column("record_id"), value_set=live))


def _batch(rows: Sequence[Any]) -> Batch:
    columns = list(zip(*rows, strict=True))[: len(SEGMENT)]
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, SEGMENT, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SEGMENT)


def _places(rows: Sequence[Any]) -> Taken:
    """The first and last place of the rows, which come in the order of places, by shard."""
    places: Taken = {}
    for row in rows:
        places.setdefault(str(row.shard), [row.sequence, row.sequence])[1] = row.sequence
    return places


def _written(
    batches: Iterable[tuple[Batch, Taken]], folder: Path, schema: Any, whole: int
) -> Iterator[tuple[File, Taken]]:
    """The batches in files of about `whole` bytes, `schema`'s columns of them, each with the places of its rows."""
    folder.mkdir()
    writer: Any = None
    taken: Taken = {}
    path, rows, size = folder, 0, 0
    for number, (batch, places) in enumerate(batches):
        if writer is None:
            path, taken, rows, size = folder / f"{number:08}.parquet", {}, 0, 0
            writer = pq.ParquetWriter(path, schema, compression="zstd" if schema is SEGMENT else "lz4")
        writer.write_batch(batch.select(schema.names))
        rows, size = rows + batch.num_rows, size + batch.nbytes
        for shard, (first, last) in places.items():
            taken.setdefault(shard, [first, last])[1] = last
        if size >= whole:
            writer.close()
            writer = None
            yield File(path, rows, size), taken
    if writer is not None:
        writer.close()
        yield File(path, rows, size), taken


def _stored(file: File, artifacts: ArtifactStore) -> dict[str, Any]:
    return {"artifact": artifacts.put_file(file.path).model_dump(mode="json"), "rows": file.rows, "size": file.size}
