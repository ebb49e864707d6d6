"""What an evaluation finds beside its figures, of predictions that are there: parts of the rows, and regression cases."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from contracts.evaluation import WORST, Regressions, Slices
from services.chassis.storage.artifacts import ArtifactStore
from services.evaluator.domain import slices
from services.evaluator.domain.predictions import Example, Predictions, Scores
from services.evaluator.domain.regressions import Answered, regressions


def compared_parts(
    rows: Sequence[Example], scored: Mapping[str, Scores], store: ArtifactStore, workdir: Path
) -> Slices:
    """Where candidate and champion differ by part of the rows, with the table of all parts in the store."""
    found = slices.compare(rows, scored["candidate"], scored["champion"])
    table = workdir / "slices.json"
    table.write_text(json.dumps([each.model_dump(mode="json") for each in found.differences], ensure_ascii=False))
    worst = slices.worst(found.differences, WORST)
    ref, tests = store.put_file(table), len(found.differences)
    return Slices(table=ref, parts=found.parts, tests=tests, left_out=found.left_out, worst=worst)


def lost_cases(examples: Mapping[str, Sequence[Example]], found: Mapping[str, Predictions], right: str) -> Regressions:
    """What became of the regression cases; `examples` and `found` are by role, `right` says when an answer is."""
    rows = [
        Answered(
            record_id=own.record_id,
            prompt=own.prompt,
            tags=own.tags,
            reference=own.reference,
            candidate=found["candidate"][own.key].answer,
            champion=found["champion"][other.key].answer,
        )
        for own, other in zip(examples["candidate"], examples["champion"], strict=True)
    ]
    return regressions(rows, right)
