"""Two versions side by side on the held-out rows that both were measured on: what is better, where, and in which answers.

Decides nothing and spends nothing: the gate's verdict is the registry's. Knows no file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from contracts.evaluation import SHOWN
from contracts.types import Metric
from services.evaluator.domain import predictions, slices
from services.evaluator.domain.predictions import Pairs, Scores, metric_of, pairs
from services.evaluator.domain.regressions import Answered, regressions
from services.lm.scoring import intervals
from services.lm.scoring.holm import holm
from services.lm.scoring.metrics import KINDS
from services.lm.scoring.paired import sign_flip

TELLING = 20
"""Answers that are shown, those that differ most."""
BY = ("chrf", "rouge_l", "bleu", "exact_match")
"""The first of these that both were measured by says which answers differ most; without any, the first metric of both."""
Finding = Literal["better", "worse", "not told apart", "same"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """A held-out row: its prompt as 'role: content' lines, its question (None of plain text), what should be answered."""

    record_id: str
    prompt: str
    question: str | None
    reference: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Side:
    """What one version made of rows: answers (None to plain text) and figures in the rows' order."""

    rows: list[MeasuredRow]
    answers: list[str | None]
    scores: Scores

    def at(self, indices: Sequence[int]) -> "Side":
        """Of these rows alone."""
        columns = {name: [column[i] for i in indices] for name, column in self.scores.values.items()}
        scores = Scores(columns, [self.scores.tokens[i] for i in indices])
        return Side([self.rows[i] for i in indices], [self.answers[i] for i in indices], scores)


class Difference(NamedTuple):
    """B against A by one metric. `difference` is B minus A; `adjusted` is the two-sided `p` by Holm over the metrics."""

    metric: str
    a: Metric
    b: Metric
    difference: Metric
    p: float
    adjusted: float
    finding: Finding


def common(a: Side, b: Side) -> tuple[Side, Side]:
    """Both on the rows that both have: of one record, asked and to be answered alike, whatever the system prompts."""
    place = {(row.record_id, row.question, row.reference): i for i, row in enumerate(b.rows)}
    found = [(i, place.get((row.record_id, row.question, row.reference))) for i, row in enumerate(a.rows)]
    both = [(i, j) for i, j in found if j is not None]
    return a.at([i for i, _ in both]), b.at([j for _, j in both])


def compare(a: Side, b: Side, right: str) -> Json:
    """B against A on the same rows, one at least, as JSON: metrics, parts, regression cases, the answers that differ most."""
    found = metrics(a.scores, b.scores)
    parts = slices.compare(b.rows, b.scores, a.scores)
    rows = [
        Answered(row.record_id, row.prompt, row.tags, row.reference, own, other)
        for row, own, other in zip(b.rows, b.answers, a.answers, strict=True)
    ]
    by, differing = telling(a, b)
    return {
        "metrics": [{**each._asdict(), **_figures(each)} for each in found],
        "findings": {each.metric: each.finding for each in found},
        "slices": {
            "parts": parts.parts,
            "tests": len(parts.differences),
            "left_out": parts.left_out,
            "worst": [d.model_dump(mode="json") for d in slices.worst(parts.differences, slices.MOST)],
            "all": [d.model_dump(mode="json") for d in parts.differences],
        },
        "regressions": regressions(rows, right).model_dump(mode="json"),
        "by": by,
        "differing": sum(x != y for x, y in zip(a.answers, b.answers, strict=True)),
        "differences": differing,
    }


def metrics(a: Scores, b: Scores) -> list[Difference]:
    """Each metric that both were measured by."""
    own, other = predictions.metrics(a), predictions.metrics(b)
    both = {name: pairs(name, b, a) for name in a.values if name in own and name in other}
    p = {name: _two_sided(found) for name, found in both.items() if found.own}
    adjusted = holm(p)
    result: list[Difference] = []
    for name in p:
        found = both[name]
        difference = metric_of(name, intervals.difference(found.own, found.other, found.weights), len(found.own))
        finding = _finding(name, found, difference.value, adjusted[name])
        result.append(Difference(name, own[name], other[name], difference, p[name], adjusted[name], finding))
    return result


def telling(a: Side, b: Side) -> tuple[str | None, list[Json]]:
    """The metric that rows are ordered by, and the TELLING rows with different answers on which B differs most from A."""
    names = [name for name in a.scores.values if name in b.scores.values]
    by = next((name for name in BY if name in names), names[0] if names else None)
    if by is None:
        return None, []
    values = zip(a.rows, a.answers, b.answers, a.scores.values[by], b.scores.values[by], strict=True)
    found: list[Json] = [
        {
            "record_id": row.record_id,
            "prompt": row.prompt if row.question is None else row.question,
            "reference": row.reference,
            "a": {"answer": x, "value": of_a},
            "b": {"answer": y, "value": of_b},
            "difference": of_b - of_a,
        }
        for row, x, y, of_a, of_b in values
        if of_a is not None and of_b is not None and of_a != of_b
    ]
    return by, sorted(found, key=lambda each: (-abs(each["difference"]), each["record_id"]))[:TELLING]


def verdict(a: str, b: str, found: Sequence[Json], rows: int, differing: int) -> str:
    """The comparison in one sentence; `found` are the metrics of `compare`, `differing` counts answers that are not the same."""

    def named(finding: Finding) -> str:
        said = [(m["metric"], m["difference"]) for m in found if m["finding"] == finding]
        return ", ".join(f"{name} {d['value']:+.4g} [{d['low']:.4g}, {d['high']:.4g}]" for name, d in said)

    better, worse, on = named("better"), named("worse"), f"on {rows} rows"
    if better and worse:
        return f"{b} is better than {a} by {better}, and worse by {worse}, {on}."
    if better or worse:
        return f"{b} is {'better' if better else 'worse'} than {a} by {better or worse}, {on}; no metric shows the contrary."
    if found and not differing and all(m["finding"] == "same" for m in found):
        return f"{b} answers as {a} does {on}."
    return f"{a} and {b} are not told apart {on}: no metric differs by more than chance."


def _figures(found: Difference) -> Json:
    return {name: getattr(found, name).model_dump(mode="json") for name in ("a", "b", "difference")}


def _two_sided(both: Pairs) -> float:
    sides = [sign_flip(both.own, both.other, 0.0, up, both.weights, slices.FLIPS).p for up in (True, False)]
    return min(1.0, 2 * min(sides))


def _finding(name: str, both: Pairs, value: float, adjusted: float) -> Finding:
    if both.own == both.other:
        return "same"
    if adjusted > SHOWN:
        return "not told apart"
    return "better" if (value > 0) == KINDS[name].higher_is_better else "worse"
