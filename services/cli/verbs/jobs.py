"""`noria runs`, `datasets` and `evaluate`: what a person asks of trainings, freezes and evaluations."""

from typing import Annotated, Any

import typer

from services.cli import api
from services.cli.model_name import parse
from services.cli.output import AsJson, Limit, Project, show
from services.cli.verbs import lists

runs = typer.Typer(help="List training runs, newest first; retry or cancel one.")
datasets = typer.Typer(help="List frozen datasets, newest first; freeze one now.")

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


@datasets.callback(invoke_without_command=True)
def list_datasets(context: typer.Context, project: Project = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List frozen datasets, newest first; freeze one now."""
    if context.invoked_subcommand is None:
        lists.datasets(project, limit, as_json)


@datasets.command("freeze")
def freeze(
    project: Annotated[str, typer.Argument(help="Whose records.")],
    as_json: AsJson = False,
) -> None:
    """Freeze a project's records into a dataset now, whatever its policy waits for. Nothing new: nothing is frozen."""
    answer: dict[str, Any] = api.post("prep", f"/v1/projects/{_path(project)}/freeze")
    if answer.get("unchanged"):
        said = f"nothing changed since dataset #{answer['dataset']['number']} of {project}"
    else:
        said = f"{project} is frozen by job {answer['job']}; `noria datasets` shows the dataset once it is there"
    show(answer, as_json, lambda: said)


def evaluate(
    model: Annotated[str, typer.Argument(help="MODEL@VERSION, as shell-copilot@2.")], as_json: AsJson = False
) -> None:
    """Measure a model version again, as after an evaluation that failed; answers that are known are not asked again."""
    name, version = parse(model)
    run = api.get("registry", f"/v1/models/{name}/{version}")["run_id"]
    known = api.items("evaluator", "/v1/evaluations", LOOKED_AT, project=name)["items"]
    found = next((each["evaluation_id"] for each in known if each["run_id"] == run), f"eval-{run}")
    answer = api.post("evaluator", f"/v1/evaluations/{_path(found)}/retry")
    show(answer, as_json, lambda: f"{model} is measured again ({answer['status']}); `noria models` shows the figures")


def _path(part: str) -> str:
    from urllib.parse import quote

    return quote(part, safe="")
