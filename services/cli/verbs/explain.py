"""`noria explain`: why a model version was promoted, rejected or waits, every value in words."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from services.cli import api, evaluation_words
from services.cli.model_name import parse
from services.cli.output import AsJson, metric, show

Json = Mapping[str, Any]


def explain(
    model: Annotated[str, typer.Argument(help="MODEL@VERSION, as shell-copilot@1.")], as_json: AsJson = False
) -> None:
    """Tell why a model version is in its stage: rules, figures, intervals, p, level, what held-out rows are left for."""
    name, version = parse(model)
    found = api.get("registry", f"/v1/models/{name}/{version}/decision")
    show(found, as_json, lambda: _text(found))


def _text(found: Json) -> Any:
    from rich.text import Text

    return Text("\n".join(lines(found)))


def lines(found: Json) -> Iterator[str]:
    """The answer of `GET /v1/models/NAME/VERSION/decision` in sentences."""
    model, decision, gate = found["model"], found["decision"], found["gate"] or {}
    yield f"{model['name']}@{model['version']} is {model['stage']}{': ' + model['detail'] if model['detail'] else ''}"
    yield f"made of dataset #{found['dataset']['number']} ({found['dataset']['version'][:12]}) by run {found['run_id']}"
    yield f"code {found['code'][:12]}, project revision {found['project_revision'][:12]}"
    if gate:
        allowed = gate.get("regressions")
        asked = [*gate["rules"], *([] if allowed is None else [f"regressions <= {allowed}"])]
        yield f"the gate asks: {'; '.join(asked) or 'for a person'}; alpha {gate['alpha']:g}, approval {gate['approval']}"
    if decision is None:
        yield "the gate has not judged it by figures that are kept"
        return
    against = f"version {decision['champion']}" if decision["champion"] else "the base"
    yield f"evaluation {decision['evaluation_id']}, measured beside {against}: {decision['verdict']}"
    for each in decision["findings"]:
        yield f"  {each['words']}"
    if found["held_out"]:
        yield f"  {found['held_out']['words']}"
    if found["left_now"] is not None:
        yield f"  left by now: {found['left_now']:.0%} of alpha; fresh held-out rows renew it by their share"
    evaluation = found["evaluation"] or {}
    for name, value in evaluation.get("metrics", {}).items():
        yield f"{name}: {metric(value)}, {against} {metric(evaluation['champion_metrics'].get(name, '-'))}"
    for sentence in (evaluation.get("judge") or {}).get("words", ()):
        yield f"  {sentence}"
    for rule, test in evaluation.get("tests", {}).items():
        counted = "all" if test["exact"] else "a random choice of"
        yield (
            f"test of {rule}: p {test['p']:.3g} from {counted} {test['flips']:,} sign flips; {test['differing']} of "
            f"{test['n']} examples differ, standard deviation {test['sd']:.4g}"
        )
    yield from evaluation_words.slices(evaluation.get("slices"))
    yield from evaluation_words.regressions(evaluation.get("regressions"), against)
