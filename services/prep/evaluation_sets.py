"""The datasets that a project's records are held against, by name, as files here. Imported by the freezing process alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.types import ArtifactRef
from services.chassis.errors import JobFailed
from services.chassis.storage.artifacts import ArtifactStore
from services.prep.domain.arrow import Column
from services.prep.domain.measure import FURTHER
from services.prep.domain.reading import read
from services.prep.domain.rows import SPLITS
from services.prep.store import SqlStore

AT_ONCE = 5_000


def find(names: Sequence[str], store: SqlStore) -> dict[str, list[ArtifactRef]]:
    """The files of the datasets `PROJECT@NUMBER`.

    Raises:
        JobFailed: `unknown_dataset` where prep has none of that name.
    """
    return {name: _files(name, store) for name in names}


def words(
    files: Mapping[str, Sequence[ArtifactRef]], artifacts: ArtifactStore
) -> dict[str, Callable[[], Iterator[Column]]]:
    """What gives the words of each dataset's records, with a space between each."""
    return {name: partial(_words, [artifacts.get(ref) for ref in refs]) for name, refs in files.items()}


def paths(files: Mapping[str, Sequence[ArtifactRef]], artifacts: ArtifactStore) -> dict[str, dict[str, Path]]:
    """Each dataset's file of each split."""
    return {name: dict(zip(SPLITS, map(artifacts.get, refs), strict=True)) for name, refs in files.items()}


def _files(name: str, store: SqlStore) -> list[ArtifactRef]:
    project, _, number = name.partition("@")
    found = store.dataset(project, int(number))
    if found is None:
        newest = store.newest(project)
        there = f"its newest is {project}@{newest.number}" if newest else f"the project {project!r} has none"
        raise JobFailed("unknown_dataset", f"decontaminate.against names {name}, but prep has no such dataset: {there}")
    return [ArtifactRef.model_validate(found.files[split]) for split in SPLITS]


def _words(paths: Sequence[Path]) -> Iterator[Column]:
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=AT_ONCE, columns=["format", "record"]):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            yield pa.array([FURTHER["all_words"](read(*row)) for row in rows], pa.string())
