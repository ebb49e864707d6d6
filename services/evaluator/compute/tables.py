"""Answer sheets and results as Parquet files. Knows no model and no artifact store."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.evaluator.domain.predictions import BatchResult, Entry, Example, GatewayMetrics


def write_sheet(path: Path, sheet: BatchResult) -> None:
    """Columns key (text), answer (text or null), loss (float64 or null), sorted by key."""
    rows = sorted(sheet.items())
    _write(
        path,
        {
            "key": [key for key, _ in rows],
            "answer": [entry.answer for _, entry in rows],
            "loss": [entry.loss for _, entry in rows],
        },
    )


def read_sheet(path: Path) -> BatchResult:
    """The sheet that write_sheet wrote."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return {row["key"]: Entry(row["answer"], row["loss"]) for row in rows}


def write_results(
    path: Path, examples: Sequence[Example], sheets: Mapping[str, BatchResult], figures: Mapping[str, GatewayMetrics]
) -> None:
    """One row an example: record_id, prompt, reference, an answer a role, and `<role>_<metric>` (float64 or null).

    `sheets` and `figures` are by role: candidate, champion, base. `prompt` is the turns as 'role: content' lines.
    """
    columns: dict[str, list[Any]] = {
        "record_id": [example.record_id for example in examples],
        "prompt": ["\n".join(f"{m['role']}: {m['content']}" for m in example.messages) for example in examples],
        "reference": [example.reference for example in examples],
    }
    for role, sheet in sheets.items():
        columns[role] = [sheet[example.key].answer for example in examples]
    for role, values in figures.items():
        columns |= {f"{role}_{name}": list(column) for name, column in values.items()}
    _write(path, columns)


def _write(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    typed = {
        name: pa.array(values, pa.float64() if _numbers(name) else pa.string()) for name, values in columns.items()
    }
    aside = path.with_suffix(".part")
    pq.write_table(pa.table(typed), aside, compression="zstd")
    aside.replace(path)


def _numbers(column: str) -> bool:
    return column == "loss" or column.startswith(("candidate_", "champion_", "base_"))
