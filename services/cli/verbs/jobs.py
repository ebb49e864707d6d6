"""`noria runs` and `evaluate`: what a person asks of trainings and evaluations."""

from typing import Annotated

import typer

from services.cli import api
from services.cli.model_name import parse
from services.cli.output import AsJson, Limit, Project, show
from services.cli.verbs import lists
from services.cli.verbs.decisions import By, Reason, person

runs = typer.Typer(help="List training runs, newest first; retry or cancel one.")

RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, as `noria runs` shows it.")]
LOOKED_AT = 200
"""So many of a project's newest evaluations are looked through for those of a version."""


@runs.callback(invoke_without_command=True)
def list_runs(context: typer.Context, project: Project = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List training runs, newest first; retry or cancel one."""
    if context.invoked_subcommand is None:
        lists.runs(project, limit, as_json)


@runs.command("retry")
def retry_run(run: RunId, as_json: AsJson = False) -> None:
    """Train a failed or cancelled run once more, from its checkpoint; or a waiting one now rather than at its next try."""
    answer = api.post("trainer", f"/v1/runs/{_path(run)}/retry")
    show(answer, as_json, lambda: f"{run} is {answer['status']}; `noria runs` shows how it goes on")


@runs.command("cancel")
def cancel_run(run: RunId, as_json: AsJson = False) -> None:
    """End a run that waits or runs; its checkpoint stays for some days, and `noria runs retry` goes on from it."""
    answer = api.post("trainer", f"/v1/runs/{_path(run)}/cancel")
    said = f"{run} is cancelled" if answer["status"] == "cancelled" else f"{run} is told to end; `noria runs` shows it"
    show(answer, as_json, lambda: said)


def evaluate(
    model: Annotated[str, typer.Argument(help="MODEL@VERSION, as shell-copilot@2.")],
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Measure a model version again. A candidate is judged by that, against the version it would take the place of now.

    While it is being measured, its next try comes now; one that is decided on shows its figures again.
    """
    name, version = parse(model)
    found = api.get("registry", f"/v1/models/{name}/{version}")
    if found["stage"] == "candidate" and found["evaluation"]["status"] != "pending":
        api.post("registry", f"/v1/models/{name}/{version}/evaluate", person(by, reason))
        answer = {"status": "requested", "model": model}
    else:
        answer = api.post("evaluator", f"/v1/evaluations/{_path(_newest_evaluation(name, found['run_id']))}/retry")
    show(
        answer,
        as_json,
        lambda: f"{model} is measured again ({answer['status']}); `noria compare {model}` shows what was measured",
    )


def _newest_evaluation(project: str, run: str) -> str:
    known = api.items("evaluator", "/v1/evaluations", LOOKED_AT, project=project)["items"]
    return next((each["evaluation_id"] for each in known if each["run_id"] == run), f"eval-{run}")


def _path(part: str) -> str:
    from urllib.parse import quote

    return quote(part, safe="")
