"""Regression cases: held-out questions whose answer a person corrected, and what became of them. Knows no file and no gate.

Prep divides records by what is asked, so of the questions that people corrected the share `prep.held_out` lies on the held-out
side, and stays there: no version is trained on them, neither the candidate nor a champion of before. They are no sample of all
questions: people correct what was wrong.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from contracts.evaluation import EXAMPLES, Regressions
from contracts.gate import parse
from services.lm.scoring.metrics import ON_ANSWERS


class Answered(NamedTuple):
    """A row of the split: what was shown, how it was corrected, what both answered; None where one did not."""

    record_id: str
    prompt: str
    tags: Mapping[str, str]
    reference: str
    candidate: str | None
    champion: str | None


def is_correction(tags: Mapping[str, str]) -> bool:
    """Whether a record is what a person said that an answer should have been.

    Ingestion tags it so. A correction from before examples had a source has none.
    """
    return tags.get("origin") == "feedback" and tags.get("source", "corrections") == "corrections"


def regressions(rows: Sequence[Answered], right: str) -> Regressions:
    """What became of the cases among `rows`; `right` is a rule such as 'exact_match >= 100' on one answer.

    Several corrections of one question, shown alike, are one case: people may correct it differently, and each is right.
    """
    rule = parse(right)
    metric, least = ON_ANSWERS[rule.metric], rule.threshold or 0.0

    def is_right(answer: str | None, references: Sequence[str]) -> bool:
        return answer is not None and any(metric(answer, reference) >= least - 1e-9 for reference in references)

    cases: dict[str, list[Answered]] = defaultdict(list)
    for row in rows:
        if is_correction(row.tags) and row.candidate is not None and row.champion is not None:
            cases[row.prompt].append(row)
    counts, records = {"kept": 0, "fixed": 0, "regressed": 0, "wrong": 0}, list[str]()
    for case in cases.values():
        references = [row.reference for row in case]
        own, other = (is_right(answer, references) for answer in (case[0].candidate, case[0].champion))
        became = ("kept" if other else "fixed") if own else ("regressed" if other else "wrong")
        counts[became] += 1
        if became == "regressed":
            records.append(case[0].record_id)
    return Regressions(right=right, cases=len(cases), records=tuple(records[:EXAMPLES]), **counts)
