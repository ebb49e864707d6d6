"""Predictions and results as Parquet files. Knows no model and no artifact store."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.evaluator.domain.comparison import MeasuredRow, Side
from services.evaluator.domain.predictions import Example, Prediction, Predictions, Scores


def write_predictions(path: Path, found: Predictions) -> None:
    """Columns key (text), answer (text or null), loss (float64 or null), tokens (int64), in the order given."""
    rows = list(found.items())
    write_columns(
        path,
        {
            "key": ("string", [key for key, _ in rows]),
            "answer": ("string", [one.answer for _, one in rows]),
            "loss": ("float64", [one.loss for _, one in rows]),
            "tokens": ("int64", [one.tokens for _, one in rows]),
        },
    )


def read_predictions(path: Path) -> Predictions:
    """What write_predictions wrote."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return {row["key"]: Prediction(row["answer"], row["loss"], row["tokens"]) for row in rows}


def write_results(
    path: Path,
    examples: Mapping[str, Sequence[Example]],
    found: Mapping[str, Predictions],
    scores: Mapping[str, Scores],
) -> None:
    """One row an example: record_id, prompt, question, reference, tags, an answer a role, `<role>_<metric>`, `<role>_tokens`.

    All by role: candidate, champion, base. `prompt` is the candidate's turns as 'role: content' lines; a role that was asked
    otherwise has `<role>_prompt` too. `question` (null of plain text) is what is asked whatever the system prompt; `tags` are
    JSON. Figures are float64 or null; `<role>_tokens` are what its loss is the mean of.
    """
    own = examples["candidate"]
    columns: Columns = {
        "record_id": ("string", [example.record_id for example in own]),
        "prompt": ("string", _prompts(own)),
        "question": ("string", [example.question for example in own]),
        "reference": ("string", [example.reference for example in own]),
        "tags": ("string", [json.dumps(dict(example.tags), ensure_ascii=False, sort_keys=True) for example in own]),
    }
    for role, asked in examples.items():
        columns[role] = ("string", [found[role][example.key].answer for example in asked])
        if _prompts(asked) != _prompts(own):
            columns[f"{role}_prompt"] = ("string", _prompts(asked))
    for role, figures in scores.items():
        columns |= {f"{role}_{name}": ("float64", column) for name, column in figures.values.items()}
        columns[f"{role}_tokens"] = ("int64", figures.tokens)
    write_columns(path, columns)


def read_results(path: Path, role: str) -> Side:
    """What one role made of the rows that `write_results` wrote; files of before have no questions and no tags."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    names = [n.removeprefix(f"{role}_") for n in rows[0] if n.startswith(f"{role}_")] if rows else []
    measured = [name for name in names if name not in ("prompt", "tokens")]
    return Side(
        rows=[
            MeasuredRow(
                record_id=row["record_id"],
                prompt=row.get(f"{role}_prompt", row["prompt"]),
                question=row.get("question"),
                reference=row["reference"],
                tags=json.loads(row.get("tags", "{}")),
            )
            for row in rows
        ],
        answers=[row[role] for row in rows],
        scores=Scores(
            {name: [row[f"{role}_{name}"] for row in rows] for name in measured},
            [row[f"{role}_tokens"] for row in rows],
        ),
    )


Columns = dict[str, tuple[str, Sequence[Any]]]
"""Arrow's name of a type and the values, by column."""


def _prompts(examples: Sequence[Example]) -> list[str]:
    return [example.prompt for example in examples]


def write_columns(path: Path, columns: Columns) -> None:
    """Writes a Parquet file wholly or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    typed = {name: pa.array(values, pa.type_for_alias(kind)) for name, (kind, values) in columns.items()}
    aside = path.with_suffix(".part")
    pq.write_table(pa.table(typed), aside, compression="zstd")
    aside.replace(path)
