"""`noria promote`, `rollback`, `reject` and `retire`: a person decides what is served."""

from typing import Annotated, Any

import typer

from services.cli import api
from services.cli.errors import Usage
from services.cli.login import login_name
from services.cli.model_name import parse
from services.cli.output import AsJson, show

Version = Annotated[str, typer.Argument(metavar="MODEL", help="MODEL@VERSION, as shell-copilot@2.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides; the login name where not given.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the model's history.")]


def promote(model: Version, by: By = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Put a model version into production."""
    name, answer = _decide(model, "promote", by, reason)
    show(answer, as_json, lambda: f"{name} is wanted in production; `noria models` shows when it serves")


def rollback(
    model: Annotated[str, typer.Argument(help="MODEL, as shell-copilot.")],
    to: Annotated[int | None, typer.Option("--to", min=0, help="To this version; 0 is the base.")] = None,
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Put the version before the present one back into production; where there was none, the base."""
    answer = api.post("registry", f"/v1/models/{model}/rollback", person(by, reason) | {"to": to})
    name = f"{model}@{answer['version'] or 'base'}"
    show(answer, as_json, lambda: f"{name} is wanted in production again; `noria models` shows when it serves")


def reject(model: Version, by: By = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Reject a candidate, as one whose evaluation fails again and again."""
    name, answer = _decide(model, "reject", by, reason)
    show(answer, as_json, lambda: f"{name} is rejected")


def _decide(model: str, verb: str, by: str | None, reason: str) -> tuple[str, Any]:
    """MODEL@VERSION and what the registry answers."""
    name, version = parse(model)
    return f"{name}@{version}", api.post("registry", f"/v1/models/{name}/{version}/{verb}", person(by, reason))


def retire(
    project: Annotated[str, typer.Argument(help="PROJECT, as shell-copilot.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Take a project out of service: it is neither served nor trained any more; its data stays.

    `noria apply` with its project file, or `noria promote`, brings it back.
    """
    if not yes and not typer.confirm(
        f"Requests for {project!r} will be refused and its training ends. Go on?", err=True
    ):
        raise Usage("not_confirmed", f"{project} stays in service; --yes does not ask")
    answer = api.post("registry", f"/v1/projects/{project}/retire", person(by, reason))
    state = "out of service" if answer["changed"] else "out of service already"
    show(answer, as_json, lambda: f"{project} is {state}; `noria apply` with its file brings it back")


def person(by: str | None, reason: str) -> dict[str, Any]:
    """The body that says who asks and why."""
    return {"by": by or login_name(), "reason": reason}
