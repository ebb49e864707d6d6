"""Writes what the steps left as the files of a dataset, and computes its version while it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from contracts.canonical import canonical
from contracts.preparation import Prep
from services.prep.domain.arrow import Table, compute
from services.prep.domain.frame import Frame, Outcome
from services.prep.domain.rows import DROPS, SPLITS
from services.prep.parquet import DROPS as DROPS_SCHEMA
from services.prep.parquet import SCHEMA, Part
from services.prep.shuffle import Shuffle

STEPS = "1"
"""Grows when the same rows mean something else, so that versions differ too."""
DROPS_A_BUCKET = 50_000


@dataclass(frozen=True, slots=True)
class Dataset:
    """The version, and the files of the splits and of the drops."""

    version: str
    files: Mapping[str, Path]


class Version:
    """SHA-256 over the rules and the sorted rows' identities, contents and splits."""

    def __init__(self, prep: Prep) -> None:
        rules = prep.model_dump(mode="json", exclude={"freeze"})
        self._hash = sha256(canonical([STEPS, rules]).encode())

    def add(self, rows: Table, splits: Any) -> None:
        """Takes the next rows in; `splits` are places in SPLITS."""
        names = ("digest", "record_id", "format", "tags", "subject")
        columns = zip(*(rows.column(name).to_pylist() for name in names), splits.tolist(), strict=True)
        lines = (canonical([d, i, f, SPLITS[split], tags, subject]) for d, i, f, tags, subject, split in columns)
        self._hash.update("".join(f"\n{line}" for line in lines).encode())

    def text(self) -> str:
        """The version of all that was taken in."""
        return self._hash.hexdigest()


def write(records: Shuffle, row_of: Any, frame: Frame, outcome: Outcome, prep: Prep, folder: Path) -> Dataset:
    """Writes the dataset's files into the folder. `row_of` gives the frame's row for a record's column `at`."""
    files = {name: folder / f"{name}.parquet" for name in (*SPLITS, DROPS)}
    parts = [Part(files[split], SCHEMA) for split in SPLITS]
    version = Version(prep)
    drops = Shuffle(folder / "drops", max(1, int((~outcome.kept).sum()) // DROPS_A_BUCKET))
    for table in records.tables():
        rows = row_of[np.asarray(table.column("at"))]
        kept = outcome.kept[rows]
        _add_drops(drops, table, rows, ~kept, frame, outcome)
        table, rows = table.filter(pa.array(kept)), rows[kept]
        order = compute.sort_indices(table, [("digest", "ascending"), ("record_id", "ascending")])
        table, splits = table.take(order), frame.split[rows[np.asarray(order)]]
        version.add(table, splits)
        for place, part in enumerate(parts):
            part.add(table.filter(pa.array(splits == place)))
    for part in parts:
        part.close()
    drops.close()
    _write_drops(drops, files[DROPS])
    return Dataset(version.text(), files)


def _add_drops(drops: Shuffle, table: Table, rows: Any, dropped: Any, frame: Frame, outcome: Outcome) -> None:
    some, rows = table.filter(pa.array(dropped)), rows[dropped]
    if not len(rows):
        return
    reasons = pa.array(outcome.reasons, pa.string()).take(pa.array(outcome.reason[rows]))
    others = outcome.because_of[rows]
    because = frame.record_ids.take(pa.array(np.where(others < 0, 0, others), mask=others < 0))
    for name, column in {"reason": reasons, "because_of": because}.items():
        some = some.append_column(name, column)
    drops.add(some.select(DROPS_SCHEMA.names).combine_chunks(), rows / max(1, len(frame)))


def _write_drops(drops: Shuffle, path: Path) -> None:
    part = Part(path, DROPS_SCHEMA)
    for table in drops.tables():
        part.add(table.sort_by("record_id"))
    part.close()
