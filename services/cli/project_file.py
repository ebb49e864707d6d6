"""Reads a project file. Knows no service: what it returns is what the registry takes."""

from typing import Any

from contracts.project import APPLYING, ProjectSpec
from services.cli.yaml_file import Kind, read


def parse(raw: bytes) -> ProjectSpec:
    """The project of a YAML file's bytes.

    Raises:
        FileInvalid: with all that is wrong, or the first thing where the file is not YAML.
    """
    return read(raw, PROJECT, ProjectSpec)


def _right(error: Any) -> str | None:
    if error["type"] == "string_pattern_mismatch" and error["loc"][:1] == ("project",):
        return "give lower-case letters, digits and hyphens, at most 63, as in shell-copilot"
    if error["type"] == "string_pattern_mismatch" and error["loc"][:1] == ("gate",):
        return "give METRIC, one of > >= < <=, and 'champion' or a number, as in \"chrf > champion\""
    return None


PROJECT = Kind(ProjectSpec, "a project file", "the project", "project: NAME", _right, APPLYING)
