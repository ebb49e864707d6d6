"""`noria apply`: a project file is checked here, line by line, and handed to the registry."""

from collections.abc import Mapping, Sequence
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
    answer |= learnt_of(answer["project"], spec.train.methods)
    state = "changed" if answer["changed"] else "unchanged"
    said = f"{answer['project']} {state}, revision {answer['revision'][:12]}"
    more = [*_told(answer, spec.train.methods), *_serves(answer["project"], answer.get("serves"))]
    show(answer, as_json, lambda: "\n".join([said, *more]))
    if (candidates := answer.get("candidates")) and not as_json:
        names = ", ".join(f"{answer['project']}@{version}" for version in candidates)
        note(
            f"prompt {answer['prompt_version']} on weights that are there is measured as {names}; nothing is trained for it"
        )


def learnt_of(project: str, methods: Sequence[str]) -> dict[str, Any]:
    """What these methods learn nothing from, by kind: `not_learnt` of the newest dataset, `accepted` of the project's records.

    Each None where there are none, or prep does not answer. prep may hear of what was applied only after this.
    """
    from contracts.kinds import lacking, unusable

    try:
        known = api.get("prep", f"/v1/projects/{project}/pending")
    except (Unreachable, Refused):  # prep may not have heard of the project yet
        return {"not_learnt": None, "accepted": None}
    newest, kinds = known["newest"], known.get("kinds")
    frozen = newest and {
        "number": newest["number"],
        "method": ", ".join(methods),
        "unusable": unusable(methods, newest["kinds"]) if newest.get("kinds") else None,
    }
    accepted = {
        "kinds": kinds,
        "counted_to": known.get("kinds_counted_to"),
        "unusable": unusable(methods, kinds or {}),
        "lacking": lacking(methods, kinds or {}),
    }
    return {"not_learnt": frozen, "accepted": accepted if kinds else None}


def _told(answer: Mapping[str, Any], methods: Sequence[str]) -> list[str]:
    newest, accepted, said = answer["not_learnt"], answer["accepted"], list[str]()
    if newest and newest["unusable"]:
        kinds = _counted(newest["unusable"], None)
        said.append(
            f"{newest['method']} learns nothing from {kinds} of the training records of dataset {newest['number']}"
        )
    if accepted:
        there = _counted(accepted["kinds"], accepted["counted_to"])
        said += [
            f"{method} has nothing to learn from yet: it needs {' or '.join(kinds)}, and the project's records are {there}"
            for method, kinds in accepted["lacking"].items()
        ]
        if accepted["unusable"]:
            left = _counted(accepted["unusable"], accepted["counted_to"])
            said.append(f"{', '.join(methods)} learns nothing from {left} of the project's records")
    return said


def _counted(kinds: Mapping[str, int], most: int | None) -> str:
    return ", ".join(f"{n}{' or more' if n == most else ''} {kind}" for kind, n in kinds.items())


def _serves(project: str, serves: dict[str, Any] | None) -> list[str]:
    if serves is None:
        return []
    if "why" in serves:
        return [f"{project} does not answer yet: {serves['why']}"]
    return [f"{serves['model']} answers as model {project!r} at {serves['url']}, after {serves['seconds']} s"]
