"""Freezes in memory, for tests of the steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from contracts.preparation import Prep
from contracts.steps import Toxicity
from services.prep import dataset
from services.prep.domain import pipeline
from services.prep.domain.arrow import Table
from services.prep.domain.frame import Frame, Texts
from services.prep.domain.measure import FURTHER, MEASURED, measure
from services.prep.domain.measure import measured as measured_schema
from services.prep.domain.rows import SPLITS, Accepted
from services.prep.domain.splits import basis, sides
from services.prep.parquet import SCHEMA
from services.prep.profiling.figures import words
from services.prep.shuffle import Shuffle


@dataclass(frozen=True)
class Row:
    record_id: str
    split: str
    record: str
    digest: str
    prompt_key: str
    words: str
    content: int


@dataclass(frozen=True)
class Drop:
    record_id: str
    reason: str
    because_of: str | None


@dataclass(frozen=True)
class Frozen:
    rows: tuple[Row, ...]
    drops: tuple[Drop, ...]
    version: str

    def drops_by_reason(self) -> dict[str, int]:
        reasons = [drop.reason for drop in self.drops]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def never(texts: Any) -> Any:
    raise AssertionError(f"{len(texts)} texts need no signatures: all pairs are compared")


def measured(records: Sequence[Accepted], scored: bool = False) -> Table:
    """By record_id."""
    found = sorted(records, key=lambda record: record.record_id)
    formats, texts = (pa.array([getattr(r, name) for r in found], pa.string()) for name in ("format", "record"))
    further = (*FURTHER, *(("toxicity",) if scored else ()))
    table = pa.Table.from_arrays(measure(formats, texts, further).flatten(), schema=measured_schema(further))
    for name in ("record_id", "format", "tags", "subject"):
        table = table.append_column(name, pa.array([getattr(r, name) for r in found], pa.string()))
    times = pa.array([r.accepted_at for r in found], pa.timestamp("us", tz="UTC"))
    return table.append_column("accepted_at", times)


def frame_of(table: Table, prep: Prep, trained: Sequence[str] = ()) -> Frame:
    columns = {name: np.asarray(table.column(name)) for name in MEASURED.names if name not in ("record", "digest")}
    keys = np.array([int(key[:16], 16) for key in trained], np.uint64)

    def texts(column: str) -> Texts:
        if len(table):
            yield np.arange(len(table)), table.column(column).combine_chunks()

    batches = table.combine_chunks().to_batches()
    split = sides(columns["prompt_0"], basis(batches[0], prep) if batches else {}, prep, keys)
    return Frame(table.column("record_id").combine_chunks(), split, columns, texts)


def freeze(
    records: Sequence[Accepted], prep: Prep, trained: Sequence[str] = (), sign: Any = never, sets: Any = None
) -> Frozen:
    table = measured(records, pipeline.asks(prep, Toxicity))
    frame = frame_of(table, prep, trained)
    outcome = pipeline.freeze(frame, prep, pipeline.Means(sign, words, sets or {}))
    ids = table.column("record_id").to_pylist()
    rows = [
        Row(
            row["record_id"],
            SPLITS[frame.split[i]],
            row["record"],
            row["digest"],
            row["prompt_key"],
            row["words"],
            row["content_0"],
        )
        for i, row in enumerate(table.to_pylist())
        if outcome.kept[i]
    ]
    version = dataset.Version(prep)
    order = sorted(np.flatnonzero(outcome.kept).tolist(), key=lambda i: (table.column("digest")[i].as_py(), ids[i]))
    version.add(table.take(pa.array(order, pa.int64())), frame.split[order])
    drops = [
        Drop(
            ids[i],
            outcome.reasons[outcome.reason[i]],
            ids[outcome.because_of[i]] if outcome.because_of[i] >= 0 else None,
        )
        for i in np.flatnonzero(~outcome.kept)
    ]
    return Frozen(tuple(sorted(rows, key=lambda row: (row.digest, row.record_id))), tuple(drops), version.text())


def written(records: Sequence[Accepted], prep: Prep, folder: Path) -> tuple[Frozen, Mapping[str, Path], dict[str, int]]:
    """A frozen dataset with its files and its rows a split."""
    table = measured(records)
    table = table.append_column(SCHEMA.field("revision"), pa.array([1] * len(table)))
    table = table.append_column("at", pa.array(np.arange(len(table))))
    frame = frame_of(table, prep)
    outcome = pipeline.freeze(frame, prep, pipeline.Means(never, words, {}))
    shuffle = Shuffle(folder / "records", 1)
    if len(table):
        shuffle.add(table, np.zeros(len(table)))
    shuffle.close()
    made = dataset.write(shuffle, np.arange(len(table)), frame, outcome, prep, folder)
    frozen = freeze(records, prep)
    assert made.version == frozen.version
    return frozen, made.files, outcome.counts(frame)
