"""`noria apply`: a project file is checked here, line by line, and handed to the registry."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli import api
from services.cli.errors import Usage
from services.cli.output import AsJson, note, show


def apply(file: Annotated[Path, typer.Argument(help="A project file (YAML).")], as_json: AsJson = False) -> None:
    """Apply a project file: define the project, or change it."""
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
    state = "changed" if answer["changed"] else "unchanged"
    show(answer, as_json, lambda: f"{answer['project']} {state}, revision {answer['revision'][:12]}")
    if (candidates := answer.get("candidates")) and not as_json:
        names = ", ".join(f"{answer['project']}@{version}" for version in candidates)
        note(
            f"prompt {answer['prompt_version']} on weights that are there is measured as {names}; nothing is trained for it"
        )
