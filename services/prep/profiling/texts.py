"""Rows of a dataset's files with their texts: all columns counted by Arrow, records read of an even sample alone."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.chat import completion_text, prompt_turns, said
from contracts.records import FORMATS, Preference, Record, UnpairedPreference, kind, turns
from services.prep.profiling.figures import REST

_CLASSES: dict[str, type[Record]] = dict(FORMATS.values())
CALL: Any = pc
"""pyarrow makes its functions when it is imported."""
COLUMNS = ("record_id", "format", "record", "tags")
MOST_VALUES = 10_000
"""Of a tag that are counted each for itself: a tag may be another one with every record."""
MOST_BYTES = 256 << 20
"""Of records that are held at once, about: fewer rows are sampled of a dataset whose records are long."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A row that was read. `rejected` and `label` are those of preferences; `split` is empty of one that was left out."""

    record_id: str
    split: str
    format: str
    kind: str
    prompt: str
    completion: str
    rejected: str | None = None
    label: bool | None = None


def sample(files: Mapping[str, Path], splits: Sequence[str], most: int) -> list[Sampled]:
    """At most `most` rows at even distances, split after split, in the order of their digests."""
    sizes = {split: pq.read_metadata(files[split]).num_rows for split in splits}
    held = sum(_record_bytes(files[split]) for split in splits)
    step = max(1, -(-sum(sizes.values()) // max(1, most)), -(-held // MOST_BYTES))
    found: list[Sampled] = []
    before = 0
    for split in splits:
        found += _every(files[split], split, step, before)
        before += sizes[split]
    return found


def _record_bytes(path: Path) -> int:
    metadata = pq.read_metadata(path)
    at = metadata.schema.names.index("record")
    return sum(metadata.row_group(i).column(at).total_uncompressed_size for i in range(metadata.num_row_groups))


def _every(path: Path, split: str, step: int, at: int) -> Iterator[Sampled]:
    """Every step-th row of the dataset, where `at` rows of it stand in other files before this one."""
    file = pq.ParquetFile(path)
    for batch in file.iter_batches(batch_size=256, columns=list(COLUMNS)):
        first = -at % step
        for row in batch.take(pa.array(range(first, batch.num_rows, step), pa.int64())).to_pylist():
            yield read(row, split)
        at += batch.num_rows


def by_id(path: Path, split: str, wanted: Sequence[str]) -> Iterator[Sampled]:
    """The rows of those record ids."""
    table = pq.read_table(path, columns=list(COLUMNS), filters=[("record_id", "in", list(wanted))]) if wanted else None
    for row in table.to_pylist() if table is not None else []:
        yield read(row, split)


def read(row: Mapping[str, Any], split: str) -> Sampled:
    """A row of a file as its texts."""
    record = _CLASSES[row["format"]].model_validate_json(row["record"])
    before = prompt_turns(record)
    asked = [said(turn) for turn in before if turn.role != "system"]
    rejected = label = None
    if isinstance(record, Preference):
        rejected = "\n".join(said(turn) for turn in turns(record.rejected, "assistant"))
    if isinstance(record, UnpairedPreference):
        label = record.label
    prompt = "\n".join(asked or [turn.content for turn in before])
    return Sampled(
        row["record_id"], split, row["format"], kind(record), prompt, completion_text(record), rejected, label
    )


def counted(files: Mapping[str, Path], splits: Sequence[str], column: str) -> Counter[str]:
    """How often each value of a column is there, in all splits."""
    found: Counter[str] = Counter()
    for split in splits:
        for batch in pq.ParquetFile(files[split]).iter_batches(batch_size=65_536, columns=[column]):
            for pair in CALL.value_counts(batch.column(0)).to_pylist():
                found[pair["values"]] += pair["counts"]
    return found


def distinct(files: Mapping[str, Path], splits: Sequence[str], column: str) -> int:
    """How many values a column has in all splits together."""
    columns = [chunk for split in splits for chunk in pq.read_table(files[split], columns=[column]).column(0).chunks]
    return CALL.count_distinct(pa.chunked_array(columns, type=pa.string())).as_py()


def tags(files: Mapping[str, Path], splits: Sequence[str]) -> dict[str, Counter[str]]:
    """How often each value of each tag is there; those after a tag's first MOST_VALUES together, as REST."""
    found: dict[str, Counter[str]] = {}
    for split in splits:
        for batch in pq.ParquetFile(files[split]).iter_batches(batch_size=65_536, columns=["tags"]):
            for pair in CALL.value_counts(batch.column(0)).to_pylist():
                for name, value in json.loads(pair["values"]).items():
                    values = found.setdefault(name, Counter())
                    values[value if value in values or len(values) < MOST_VALUES else REST] += pair["counts"]
    return found
