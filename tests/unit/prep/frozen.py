"""Frozen files for tests of what reads them: rows as plain data in, Parquet as a freeze writes it out."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.canonical import canonical, digest
from services.prep import parquet

Plain = Mapping[str, Any]
"""record_id and record; tags, subject, format, reason, because_of where they matter."""


def write(folder: Path, splits: Mapping[str, Iterable[Plain]], drops: Iterable[Plain] = ()) -> dict[str, Path]:
    """The files of a dataset by name; rows are sorted as a freeze sorts them."""
    files = {name: folder / f"{name}.parquet" for name in (*splits, "drops")}
    for name, rows in splits.items():
        full = sorted(map(_full, rows), key=lambda row: (row["digest"], row["record_id"]))
        pq.write_table(pa.Table.from_pylist(full, schema=parquet.SCHEMA), files[name])
    left_out = sorted(map(_full, drops), key=lambda row: row["record_id"])
    pq.write_table(pa.Table.from_pylist(left_out, schema=parquet.DROPS), files["drops"])
    return files


def _full(row: Plain) -> dict[str, Any]:
    text = canonical(row["record"])
    prompt = row["record"].get("prompt", "")
    named = {"revision": 1, "format": "prompt_completion", "subject": None, "because_of": None, **row}
    return {
        **named,
        "record": text,
        "digest": digest(text),
        "prompt_key": digest(canonical(prompt)),
        "tags": canonical(row.get("tags", {})),
    }
