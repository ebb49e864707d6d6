"""The prompts that the registry knows of a project, and the one a project file holds. Asks no model."""

import re
from pathlib import Path
from typing import Any

from contracts.project import ProjectSpec
from contracts.prompt import Prompt, prompt_digest
from services.cli import api
from services.cli.errors import Usage
from services.cli.project_file import parse as parse_project
from services.cli.yaml_file import FileInvalid

_NAMED = re.compile(r"^([a-z0-9][a-z0-9-]{0,62})(?:@v?([0-9]{1,9}))?$")


def parse(raw: str) -> tuple[str, int | None]:
    """Project and, where it is given, a prompt's number.

    Raises:
        Usage: it is not PROJECT or PROJECT@NUMBER.
    """
    match = _NAMED.match(raw)
    if match is None:
        raise Usage("bad_prompt_name", f"{raw!r} names no prompt; give PROJECT or PROJECT@NUMBER, as shell-copilot@2")
    return match[1], int(match[2]) if match[2] else None


def path(project: str) -> str:
    """Where the registry lists a project's prompts."""
    return f"/v1/projects/{project}/prompts"


def spec_of(project: str) -> ProjectSpec:
    """The project as it is defined now. Raises Refused, Unreachable."""
    return ProjectSpec.model_validate(api.get("registry", f"/v1/projects/{project}")["spec"])


def version(project: str, number: int | None) -> dict[str, Any]:
    """A prompt of a project: that of a number, else the one that the project is defined with now. Raises Refused, Unreachable."""
    if number is not None:
        return api.get("registry", f"{path(project)}/{number}")
    digest = prompt_digest(spec_of(project).prompt)
    known = api.items("registry", path(project), 1000)["items"]
    found = next((one for one in known if one["digest"] == digest), None)
    if found is None:
        raise Usage("unknown_prompt", f"project {project!r} has no numbered prompt yet; `noria apply` numbers it")
    return api.get("registry", f"{path(project)}/{found['version']}")


def prompt_of(project: str, number: int | None) -> Prompt:
    """The prompt of a number, else the one that is served, or defined where none is served yet. Raises as `version`."""
    if number is not None:
        return Prompt.model_validate(version(project, number)["prompt"])
    known = api.items("registry", path(project), 1000)["items"]
    served = next((one for one in known if one.get("serving")), None) or version(project, None)
    return Prompt.model_validate(served["prompt"])


def of_file(file: Path) -> Prompt:
    """The prompt of a project file.

    Raises:
        Usage: the file cannot be read, or is no project file; with all that is wrong.
    """
    try:
        return parse_project(file.read_bytes()).prompt
    except OSError as error:
        raise Usage("cannot_read", f"{file}: {error.strerror}") from error
    except FileInvalid as error:
        problems = [{"line": p.line, "key": p.key, "message": p.message} for p in error.problems]
        raise Usage("invalid_project_file", f"{file}:\n{error}", problems) from error
