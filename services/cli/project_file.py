"""Reads a project file: every unknown key and impossible value with its line, its key and what would be right.

Knows no service: what it returns is what the registry takes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from itertools import groupby
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from contracts.project import APPLYING, ProjectSpec
from services.cli.yaml_lines import Document, Path, YamlRefused, load


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of the file; `line` counts from 1, `key` is dotted and empty for the whole file."""

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


class ProjectFileInvalid(ValueError):
    """The file is no project; `problems` in the order of their lines."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def parse(raw: bytes) -> ProjectSpec:
    """The project of a YAML file's bytes.

    Raises:
        ProjectFileInvalid: with all that is wrong, or the first thing where the file is not YAML.
    """
    try:
        document = load(raw)
    except YamlRefused as error:
        raise ProjectFileInvalid((Problem(error.line, "", str(error)),)) from error
    if not isinstance(document.value, dict):
        raise ProjectFileInvalid((Problem(1, "", "a project file is a mapping; it begins with 'project: NAME'"),))
    try:
        spec = ProjectSpec.model_validate(document.value, context=APPLYING)
    except ValidationError as error:
        raise ProjectFileInvalid(_problems(document, error)) from error
    switched = tuple(_booleans(document.value, spec.model_dump(), document, ()))
    if switched:
        raise ProjectFileInvalid(switched)
    return spec


def _problems(document: Document, error: ValidationError) -> tuple[Problem, ...]:
    found = sorted(
        ((_within(document, e["loc"]), e) for e in error.errors(include_url=False)), key=lambda pair: str(pair[0])
    )
    problems = [_problem(document, path, [e for _, e in group]) for path, group in groupby(found, key=lambda p: p[0])]
    return tuple(sorted(problems, key=lambda p: (p.line, p.key)))


def _within(document: Document, loc: Path) -> Path:
    """`loc` without pydantic's names of union members; a missing key stays, its place is around it."""
    known = next((loc[:n] for n in range(len(loc), 0, -1) if loc[:n] in document.lines), ())
    rest = loc[len(known) :]
    return (*known, *rest) if rest and _fields(known) and rest[0] in _fields(known) else known


def _problem(document: Document, path: Path, errors: list[Any]) -> Problem:
    key, line, kind = _dotted(path), document.line(path), errors[0]["type"]
    if kind == "extra_forbidden":
        return Problem(line, key, f"{key} is not known; {_suggestion(path)}")
    if kind == "missing":
        return Problem(line, key, f"{key} is missing; add it")
    right = " or ".join(dict.fromkeys(_right(e) for e in errors))
    if kind == "value_error" and isinstance(errors[0]["input"], dict):
        return Problem(line, key, right)
    return Problem(line, key, f"{key} is {_shown(errors[0]['input'])}; {right}")


def _right(error: Any) -> str:
    """Pydantic's message as what would be right."""
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "it should be")
    if error["type"] == "string_pattern_mismatch" and error["loc"][:1] == ("project",):
        return "give lower-case letters, digits and hyphens, at most 63, as in shell-copilot"
    if error["type"] == "string_pattern_mismatch":
        return "give METRIC, one of > >= < <=, and 'champion' or a number, as in \"chrf > champion\""
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"it should hold keys: {', '.join(_fields(error['loc']))}"
    return message


def _suggestion(path: Path) -> str:
    names, last = list(_fields(path[:-1])), str(path[-1])
    close = get_close_matches(last, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    elsewhere = [_dotted(p) for p in _all_paths() if p[-1] == last]
    return f"did you mean {elsewhere[0]}?" if elsewhere else f"known here: {', '.join(names)}"


def _booleans(raw: Any, spec: Any, document: Document, path: Path) -> Iterator[Problem]:
    """Numbers written as yes or no: pydantic would take them as 1 and 0."""
    if isinstance(raw, dict) and isinstance(spec, dict):
        for name, value in raw.items():
            yield from _booleans(value, spec.get(name), document, (*path, name))
    elif isinstance(raw, list) and isinstance(spec, list | tuple):
        for i, (value, taken) in enumerate(zip(raw, spec, strict=False)):
            yield from _booleans(value, taken, document, (*path, i))
    elif isinstance(raw, bool) and not isinstance(spec, bool):
        key = _dotted(path)
        yield Problem(document.line(path), key, f"{key} is {_shown(raw)}; it should be a number")


def _fields(path: Path) -> dict[str, type[BaseModel] | None]:
    """The keys known at `path`, with the section behind each; empty where `path` is no section."""
    model: type[BaseModel] | None = ProjectSpec
    for part in path:
        model = _sections(model).get(str(part)) if model is not None else None
    return _sections(model) if model is not None else {}


@cache
def _sections(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    return {name: _section(info.annotation) for name, info in model.model_fields.items()}


def _section(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


@cache
def _all_paths(prefix: Path = ()) -> tuple[Path, ...]:
    here = [(*prefix, name) for name in _fields(prefix)]
    return tuple(here) + tuple(deep for path in here if _fields(path) for deep in _all_paths(path))


def _dotted(path: Path) -> str:
    return ".".join(map(str, path)) or "the project"


def _shown(value: Any) -> str:
    text = (
        {True: "true", False: "false", None: "empty"}.get(value) if value is None or isinstance(value, bool) else None
    )
    text = text or repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
