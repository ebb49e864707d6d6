"""The pairs of answers that a judge is asked about, from an evaluation's files; and the file of its verdicts."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from contracts.chat import conversation, said
from contracts.project import Prompt
from contracts.records import Preference, parse_record, turns
from services.evaluator.judge.figures import Judged
from services.evaluator.judge.question import Pair
from services.evaluator.tables import write_columns
from services.lm.errors import TextRefused
from services.lm.prompt_template import record_prompt

MOST_PEOPLE = 200
"""So many pairs of people's are asked about: kappa is then known to about 0.1."""


def candidate_pairs(results: Path) -> list[Pair]:
    """Of each example in a file of results (compute/tables.py) the candidate's and the champion's answer, where both gave one."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(
        results, columns=["record_id", "prompt", "candidate", "champion"]
    ).to_pylist()
    return [
        Pair(row["record_id"], row["prompt"], row["candidate"], row["champion"])
        for row in rows
        if row["candidate"] is not None and row["champion"] is not None
    ]


def people_pairs(split: Path, prompt: Prompt) -> list[Pair]:
    """What people chose and what they left, of a split's preferences, as the candidate would be asked; one answer each.

    Of more than MOST_PEOPLE those with the smallest digests: the same at each evaluation.
    """
    import pyarrow.parquet as pq

    names = [name for name in ("record_id", "record", "tags") if name in pq.read_schema(split).names]
    rows: list[dict[str, str]] = pq.read_table(split, columns=names).to_pylist()
    found = [pair for row in rows if (pair := _people(row, prompt)) is not None and not pair.is_equal]
    return sorted(found, key=lambda pair: hashlib.sha256(pair.id.encode()).hexdigest())[:MOST_PEOPLE]


def _people(row: Mapping[str, str], prompt: Prompt) -> Pair | None:
    record = parse_record(json.loads(row["record"]))[1]
    if not isinstance(record, Preference) or any(
        len(turns(each, "assistant")) > 1 for each in (record.chosen, record.rejected)
    ):
        return None  # of several turns it is not told which one made the choice
    try:
        shown = record_prompt(prompt, record, json.loads(row.get("tags", "{}")))
    except TextRefused:
        return None
    asked, chosen = conversation(shown, record)
    return Pair(row["record_id"], question_text(asked), chosen, said(turns(record.rejected, "assistant")[0]))


def question_text(messages: Iterable[Mapping[str, Any]]) -> str:
    """Turns as lines 'role: content', as a file of results has them."""
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def write_verdicts(path: Path, held_out: Iterable[Judged], people: Iterable[Judged]) -> None:
    """Columns id, kind (held_out or people), shown_first, shown_second, win: how far the candidate or people's choice wins."""
    rows = [*(("held_out", each) for each in held_out), *(("people", each) for each in people)]
    write_columns(
        path,
        {
            "id": ("string", [each.pair.id for _, each in rows]),
            "kind": ("string", [kind for kind, _ in rows]),
            "shown_first": ("float64", [each.shown_first for _, each in rows]),
            "shown_second": ("float64", [each.shown_second for _, each in rows]),
            "win": ("float64", [each.win for _, each in rows]),
        },
    )
