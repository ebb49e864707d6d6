"""Reads a project file. Knows no service: what it returns is what the registry takes."""

from typing import Any

from contracts.project import APPLYING, ProjectSpec
from services.cli.yaml_file import FileInvalid, Kind, Problem, read_lines
from services.cli.yaml_lines import Document
from services.lm.errors import PromptInvalid
from services.lm.prompt_template import check_prompt


def parse(raw: bytes) -> ProjectSpec:
    """The project of a YAML file's bytes.

    Raises:
        FileInvalid: with all that is wrong, or the first thing where the file is not YAML.
    """
    spec, document = read_lines(raw, PROJECT, ProjectSpec)
    try:
        check_prompt(spec.prompt)
    except PromptInvalid as error:
        raise FileInvalid((_in_file(document, error),)) from error
    return spec


def _in_file(document: Document, error: PromptInvalid) -> Problem:
    """The fault with its line in the file, where the template stands there line by line; else with that of its key."""
    path = ("prompt", *error.key)
    key, line = ".".join(path), error.line
    if line and path in document.literal:
        return Problem(document.literal[path] + line, key, f"{key}: {error.why}")
    within = f"line {line} of the text: " if line and line > 1 else ""
    return Problem(document.line(path), key, f"{key}: {within}{error.why}")


def _right(error: Any) -> str | None:
    if error["type"] == "string_pattern_mismatch" and error["loc"][:1] == ("project",):
        return "give lower-case letters, digits and hyphens, at most 63, as in shell-copilot"
    if error["type"] == "string_pattern_mismatch" and error["loc"][:1] == ("gate",):
        return "give METRIC, one of > >= < <=, and 'champion' or a number, as in \"chrf > champion\""
    if error["type"] == "string_pattern_mismatch" and error["loc"][:1] == ("evaluate",):
        return "give METRIC >= NUMBER, as in 'chrf >= 80'"
    return None


PROJECT = Kind(ProjectSpec, "a project file", "the project", "project: NAME", _right, APPLYING)
