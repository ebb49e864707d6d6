"""What changed between two datasets of a project, by their Parquet files: two datasets in, counts and examples out.

Reads identities and digests, not the records. Imported when somebody asks, since pyarrow is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

READ = ("record_id", "digest", "tags", "subject")
CALL: Any = pc
"""pyarrow makes its functions when it is imported."""


def difference(before: Mapping[str, Path], after: Mapping[str, Path], examples: int) -> dict[str, Any]:
    """By kind: `n`, and the first `examples` by record_id. Splits by name -> file.

    `added` and `removed` are record ids; `changed` ones have other content, `retagged` ones the same content with other tags or
    another subject, `moved` ones are in another split. A record may be of several of the last three.
    """
    joined: Any = _identities(before).join(
        _identities(after), keys="record_id", join_type="full outer", left_suffix="_before", right_suffix="_after"
    )
    was, now = (CALL.is_valid(joined.column(f"digest_{side}")) for side in ("before", "after"))
    both = CALL.and_(was, now)
    retagged = CALL.or_(_differ(joined, "tags"), _differ(joined, "subject"))
    kinds = {
        "added": CALL.invert(was),
        "removed": CALL.invert(now),
        "changed": CALL.and_(both, _differ(joined, "digest")),
        "retagged": CALL.and_(CALL.and_(both, retagged), CALL.invert(_differ(joined, "digest"))),
        "moved": CALL.and_(both, _differ(joined, "split")),
    }
    found = {kind: _told(joined.filter(mask), examples) for kind, mask in kinds.items()}
    return found | {"same": joined.num_rows - CALL.sum(_any(list(kinds.values()))).as_py()}


def _identities(splits: Mapping[str, Path]) -> Any:
    """The columns READ of all splits, and which split a row is of."""
    tables: list[Any] = []
    for split, path in splits.items():
        table = pq.read_table(path, columns=list(READ))
        tables.append(table.append_column("split", pa.repeat(pa.scalar(split), table.num_rows)))
    return pa.concat_tables(tables)


def _differ(joined: Any, column: str) -> Any:
    """Whether a column is another one before and after; null and an empty text are one."""
    sides = [CALL.fill_null(joined.column(f"{column}_{side}"), "") for side in ("before", "after")]
    return CALL.not_equal(*sides)


def _any(masks: list[Any]) -> Any:
    found = masks[0]
    for mask in masks[1:]:
        found = CALL.or_(found, mask)
    return CALL.coalesce(CALL.cast(found, pa.int64()), pa.scalar(0))


def _told(rows: Any, examples: int) -> dict[str, Any]:
    first = rows.sort_by("record_id").slice(0, examples).to_pylist()
    names = [f"{name}_{side}" for name in ("split", "digest") for side in ("before", "after")]
    return {"n": rows.num_rows, "examples": [{name: row[name] for name in ("record_id", *names)} for row in first]}
