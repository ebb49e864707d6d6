"""Records of a dataset's split, as its Parquet file holds them."""

import json
from pathlib import Path

from contracts.records import Record, parse_record


def read(path: Path) -> list[Record]:
    """The records of a split in the order of their digests; columns `record` (JSON) and, where present, `digest`."""
    import pyarrow.parquet as pq

    names = [name for name in ("record", "digest") if name in pq.read_schema(path).names]
    table = pq.read_table(path, columns=names)
    if "digest" in names:
        table = table.sort_by("digest")
    return [parse_record(json.loads(text))[1] for text in table.column("record").to_pylist()]
