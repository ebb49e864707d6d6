"""Records that repeat each other, as the drops tell: clusters with their sizes and examples. Knows no rule of comparing."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from services.prep.domain.rows import DROPS
from services.prep.profiling.figures import excerpt, spread
from services.prep.profiling.texts import by_id

COLUMNS = ["record_id", "reason", "because_of"]
SHOWN = 5
"""Clusters, and members of each."""
BRIEF = 200
Repeated = list[tuple[str, str, str]]
"""(record_id, reason, the record that it repeats)."""


def drops(path: Path) -> dict[str, Any]:
    """By reason: how many were left out, and some of them with the record they repeat."""
    found: dict[str, dict[str, Any]] = {}
    for batch in pq.ParquetFile(path).iter_batches(batch_size=65_536, columns=COLUMNS):
        for row in batch.to_pylist():
            of = found.setdefault(row["reason"], {"n": 0, "examples": []})
            of["n"] += 1
            if len(of["examples"]) < SHOWN:
                of["examples"].append({"record_id": row["record_id"], "because_of": row["because_of"]})
    return dict(sorted(found.items()))


def repeats(files: Mapping[str, Path], splits: tuple[str, ...]) -> dict[str, Any]:
    """Clusters of records that repeat one: how many, their sizes, the largest with texts of the kept one and of some others."""
    table = pq.read_table(files[DROPS], columns=COLUMNS)
    columns = [table.column(name).to_pylist() for name in COLUMNS]
    repeated: Repeated = [found for found in zip(*columns, strict=True) if found[2]]
    members = clusters(repeated)
    largest = sorted(members, key=lambda kept: (-len(members[kept]), kept))[:SHOWN]
    wanted = [*largest, *(each for kept in largest for each, _ in members[kept][:SHOWN])]
    texts = {row.record_id: row for name in (*splits, DROPS) for row in by_id(files[name], name, wanted)}

    def shown(record_id: str) -> dict[str, str]:
        row = texts.get(record_id)
        text = excerpt(f"{row.prompt}\n{row.completion}".strip(), BRIEF) if row else ""
        return {"record_id": record_id, "text": text}

    return {
        "clusters": len(members),
        "records": sum(len(some) for some in members.values()),
        "sizes": spread([1 + len(some) for some in members.values()]),
        "largest": [
            {
                "kept": shown(kept),
                "size": 1 + len(members[kept]),
                "reasons": dict(sorted(Counter(reason for _, reason in members[kept]).items())),
                "others": [shown(each) for each, _ in members[kept][:SHOWN]],
            }
            for kept in largest
        ],
    }


def clusters(repeated: Repeated) -> dict[str, list[tuple[str, str]]]:
    """By the record that all of a chain repeat in the end: who does, with the reason."""
    above = {record_id: other for record_id, _, other in repeated}
    found: dict[str, list[tuple[str, str]]] = {}
    for record_id, reason, other in repeated:
        root, passed = other, {record_id}
        while root in above and root not in passed:
            passed.add(root)
            root = above[root]
        found.setdefault(root, []).append((record_id, reason))
    return found
