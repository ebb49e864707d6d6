"""`noria promote`, `rollback`, `reject` and `retire`: a person decides what is served."""

from typing import Annotated

import typer

from services.cli import api
from services.cli.errors import Usage
from services.cli.model_name import parse
from services.cli.output import AsJson, show

By = Annotated[str | None, typer.Option("--by", help="Who decides; the login name where not given.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the model's history.")]


def promote(
    model: Annotated[str, typer.Argument(help="MODEL@VERSION, as shell-copilot@2.")],
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Put a model version into production."""
    name, version = parse(model)
    answer = api.post("registry", f"/v1/models/{name}/{version}/promote", {"by": by or _login(), "reason": reason})
    show(answer, as_json, lambda: f"{name}@{version} is wanted in production; `noria models` shows when it serves")


def rollback(
    model: Annotated[str, typer.Argument(help="MODEL, as shell-copilot.")],
    to: Annotated[int | None, typer.Option("--to", min=0, help="To this version; 0 is the base.")] = None,
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Put the version before the present one back into production; where there was none, the base."""
    body = {"by": by or _login(), "reason": reason, "to": to}
    answer = api.post("registry", f"/v1/models/{model}/rollback", body)
    name = f"{model}@{answer['version'] or 'base'}"
    show(answer, as_json, lambda: f"{name} is wanted in production again; `noria models` shows when it serves")


def reject(
    model: Annotated[str, typer.Argument(help="MODEL@VERSION, as shell-copilot@2.")],
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Reject a candidate, as one whose evaluation fails again and again."""
    name, version = parse(model)
    answer = api.post("registry", f"/v1/models/{name}/{version}/reject", {"by": by or _login(), "reason": reason})
    show(answer, as_json, lambda: f"{name}@{version} is rejected")


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
    body = {"by": by or _login(), "reason": reason}
    answer = api.post("registry", f"/v1/projects/{project}/retire", body)
    state = "out of service" if answer["changed"] else "out of service already"
    show(answer, as_json, lambda: f"{project} is {state}; `noria apply` with its file brings it back")


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
