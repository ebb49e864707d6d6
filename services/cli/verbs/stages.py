"""`noria promote` and `noria rollback`: a person decides what is in production."""

from typing import Annotated

import typer

from services.cli import api
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
    show(answer, as_json, lambda: f"{name}@{version} is in production; `noria watch serving` shows its deployment")


def rollback(
    model: Annotated[str, typer.Argument(help="MODEL, as shell-copilot.")],
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Put the version before the present one back into production."""
    answer = api.post("registry", f"/v1/models/{model}/rollback", {"by": by or _login(), "reason": reason})
    show(answer, as_json, lambda: f"{model}@{answer.get('version', '?')} is in production again")


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
