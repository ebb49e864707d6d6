"""`noria apply`: a project file is checked here, line by line, and handed to the registry."""

from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import api
from services.cli.errors import Refused, Unreachable, Usage
from services.cli.output import AsJson, note, show

Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until the project's name answers; 0: not.")]


def apply(
    file: Annotated[Path, typer.Argument(help="A project file (YAML).")], wait: Wait = 60, as_json: AsJson = False
) -> None:
    """Apply a project file: define the project, or change it. Its teacher or base answers until a version is promoted."""
    from services.cli.first_answer import wait_for_answer
    from services.cli.project_file import parse
    from services.cli.yaml_file import FileInvalid

    try:
        spec = parse(file.read_bytes())
    except OSError as error:
        raise Usage("cannot_read", f"{file}: {error.strerror}") from error
    except FileInvalid as error:
        problems = [{"line": p.line, "key": p.key, "message": p.message} for p in error.problems]
        raise Usage("invalid_project_file", f"{file}:\n{error}", problems) from error
    answer = api.post("registry", "/v1/projects", spec.model_dump(mode="json"))
    if wait:
        answer["serves"] = wait_for_answer(spec.project, wait, lambda why: None if as_json else note(why))
    answer["not_learnt"] = not_learnt(answer["project"])
    state = "changed" if answer["changed"] else "unchanged"
    said = f"{answer['project']} {state}, revision {answer['revision'][:12]}"
    more = [*_told(answer["not_learnt"]), *_serves(answer["project"], answer.get("serves"))]
    show(answer, as_json, lambda: "\n".join([said, *more]))
    if (candidates := answer.get("candidates")) and not as_json:
        names = ", ".join(f"{answer['project']}@{version}" for version in candidates)
        note(
            f"prompt {answer['prompt_version']} on weights that are there is measured as {names}; nothing is trained for it"
        )


def not_learnt(project: str) -> dict[str, Any] | None:
    """{number, method, unusable} of the project's newest dataset; None where there is none, or prep does not answer."""
    try:
        return api.get("prep", f"/v1/projects/{project}/pending")["newest"]
    except (Unreachable, Refused):  # prep may not have heard of the project yet
        return None


def _told(newest: dict[str, Any] | None) -> list[str]:
    if not newest or not newest["unusable"]:
        return []
    kinds = ", ".join(f"{n} {kind}" for kind, n in newest["unusable"].items())
    return [f"{newest['method']} learns nothing from {kinds} of the training records of dataset {newest['number']}"]


def _serves(project: str, serves: dict[str, Any] | None) -> list[str]:
    if serves is None:
        return []
    if "why" in serves:
        return [f"{project} does not answer yet: {serves['why']}"]
    return [f"{serves['model']} answers as model {project!r} at {serves['url']}, after {serves['seconds']} s"]
