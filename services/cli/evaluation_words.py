"""Parts of an evaluation's rows and its regression cases in sentences. Knows no service."""

from collections.abc import Iterator, Mapping
from typing import Any

from services.cli.output import metric

Json = Mapping[str, Any]
WORSE, WORST = 10, 5
"""So many parts are told: of those that are shown to be worse, and where none is."""


def slices(found: Json | None) -> Iterator[str]:
    """Of the JSON of contracts.evaluation.Slices: which parts are shown to be worse, and the worst of the others."""
    from contracts.evaluation import SHOWN

    if found is None:
        return

    worst = found["worst"]
    worse = [each for each in worst if each["adjusted"] <= SHOWN]
    count = f"{found['parts']} parts of the rows by tag and by the question's length"
    said = (
        f"{len(worse)} of the differences shown are worse by more than chance" if worse else "none is shown to be worse"
    )
    yield f"{count}: {said} ({found['tests']} tests, p by Holm over all, level {SHOWN:g})"
    for each in worse[:WORSE] or worst[:WORST]:
        yield f"  {part(each)}"
    if found["left_out"]:
        yield f"  {found['left_out']} smaller parts are not compared"


def part(found: Json) -> str:
    """One metric on one part."""
    name = f"{found['tag']} = {found['value']}" if found["tag"] else f"question of {found['value']}"
    figures = f"{found['candidate']:.4g} against {found['champion']:.4g}"
    n, p = found["difference"]["n"], f"p {found['p']:.2g} ({found['adjusted']:.2g} by Holm)"
    return f"{name}: {found['metric']} {figures} on {n}, {metric(found['difference'])}, {p}"


def regressions(found: Json | None, against: str) -> Iterator[str]:
    """Of the JSON of contracts.evaluation.Regressions: what became of the cases; `against` names the champion."""
    if found is None:
        return
    if not found["cases"]:
        yield "regression cases: none yet; held-out questions become cases when people correct their answers"
        return
    yield (
        f"regression cases: of {found['cases']} held-out questions that people corrected {found['kept']} kept, "
        f"{found['fixed']} fixed, {found['regressed']} lost to {against}, {found['wrong']} right by neither "
        f"(right is {found['right']})"
    )
    if found["records"]:
        yield f"  lost: {', '.join(found['records'])}"
