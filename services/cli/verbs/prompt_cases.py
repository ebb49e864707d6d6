"""`noria prompt test`: a file of cases judges what served models answer under a prompt."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.errors import ConsoleError, NotRun
from services.cli.output import AsJson, Cell, brief, show, table
from services.cli.verbs.prompt_ask import AtOnce, Models, Project, PromptFile, Variables, Version, around, asked

if TYPE_CHECKING:
    from rich.console import RenderableType


def run_cases(
    project: Project,
    file: Annotated[
        Path, typer.Argument(metavar="CASES", help="A file of cases (YAML): docs/prompts.md tells what is in it.")
    ],
    model: Models = None,
    version: Version = None,
    var: Variables = None,
    prompt: PromptFile = None,
    at_once: AtOnce = 8,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write the outcome here, too, as JUnit's XML.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a file of cases against served models. Exit status 0: all passed, 1: some failed, 2: they could not be run."""
    from services.cli.prompts import junit as xml
    from services.cli.prompts import trial

    cases = trial.cases_of(file)
    number = version if version is not None else (None if prompt else cases.version)
    models = model or [project]
    questions, variables = trial.of_cases(cases), trial.assignments(var or [])
    options = {"temperature": 0.0, "store": False}  # no user asks: nothing to keep
    began = time.monotonic()
    try:
        under = around(project, number, prompt, models, options)
        found = asked(trial.crossed(under, questions, models, variables), f"{len(questions)} cases", at_once)
    except ConsoleError as error:
        raise NotRun(error.code, error.message, error.detail) from error
    results = trial.judged(found, [case for case in cases.cases for _ in models])
    document = trial.report(project, number, results, time.monotonic() - began)
    if junit:
        _written(junit, xml.document(str(file), results))
    show(document, as_json, lambda: verdict(document))
    if document["failed"]:
        raise typer.Exit(1)


def verdict(document: Mapping[str, Any]) -> "RenderableType":
    """The failures, each with what was expected and what came, and how many passed."""
    from rich.console import Group

    failed = [
        {"case": one["case"], "model": one["model"], **failure}
        for one in document["results"]
        for failure in one["failures"]
    ]
    columns: dict[str, Cell] = {
        "case": lambda r: r["case"],
        "model": lambda r: r["model"],
        "check": lambda r: r["check"],
        "expected": lambda r: visible(r["expected"]),
        "got": lambda r: visible(r["got"]) or "(nothing)",
    }
    total = document["passed"] + document["failed"]
    said = f"{document['passed']} of {total} passed in {document['seconds']:.1f} s"
    return Group(table(failed, columns, ""), said) if failed else said


def visible(text: str) -> str | None:
    """A text's beginning on one line, its line ends shown."""
    return brief(text.replace("\n", "\\n"), 300)


def _written(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise NotRun("cannot_write", f"{file}: {error.strerror}") from error
