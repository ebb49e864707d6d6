"""Records of a dataset's split, as its Parquet file holds them."""

import json
from pathlib import Path

from contracts.records import Record, parse_record


def read(path: Path) -> tuple[list[Record], list[dict[str, str]]]:
    """The records of a split in the order of their digests, and the tags of each, which are a prompt's variables.

    Columns: `record` (JSON) and, where present, `digest` and `tags` (JSON).
    """
    import pyarrow.parquet as pq

    names = [name for name in ("record", "digest", "tags") if name in pq.read_schema(path).names]
    table = pq.read_table(path, columns=names)
    if "digest" in names:
        table = table.sort_by("digest")
    records = [parse_record(json.loads(text))[1] for text in table.column("record").to_pylist()]
    tags = table.column("tags").to_pylist() if "tags" in names else ["{}"] * len(records)
    return records, [json.loads(text) for text in tags]
