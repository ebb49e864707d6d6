"""Reads a YAML file as a model: every unknown key and impossible value with its line, its key and what would be right.

Knows no file in particular.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from itertools import groupby
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from services.cli.yaml_lines import Document, Path, YamlRefused, load

M = TypeVar("M", bound=BaseModel)
Right = Callable[[Any], str | None]
"""What would be right, of one of pydantic's errors; None where pydantic's own words say it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of the file; `line` counts from 1, `key` is dotted and empty for the whole file."""

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


class FileInvalid(ValueError):
    """The file is not what it should be; `problems` in the order of their lines."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Kind:
    """What kind of file it is.

    `name`: 'a project file'; `whole`: what it holds, 'the project'; `begins`: its first line; `right`: what else would be right.
    """

    model: type[BaseModel]
    name: str
    whole: str
    begins: str
    right: Right = lambda error: None
    context: Any = None


def read(raw: bytes, kind: Kind, model: type[M]) -> M:
    """What the bytes of a YAML file of `kind` hold; `model` is the kind's. Raises as `read_lines`."""
    return read_lines(raw, kind, model)[0]


def read_lines(raw: bytes, kind: Kind, model: type[M]) -> tuple[M, Document]:
    """The same with the lines in which it stands.

    Raises:
        FileInvalid: with all that is wrong, or the first thing where the file is not YAML.
    """
    try:
        document = load(raw)
    except YamlRefused as error:
        raise FileInvalid((Problem(error.line, "", str(error)),)) from error
    if not isinstance(document.value, dict):
        raise FileInvalid((Problem(1, "", f"{kind.name} is a mapping; it begins with '{kind.begins}'"),))
    try:
        found = model.model_validate(document.value, context=kind.context)
    except ValidationError as error:
        raise FileInvalid(_problems(document, kind, error)) from error
    switched = tuple(_booleans(document.value, found.model_dump(), document, ()))
    if switched:
        raise FileInvalid(switched)
    return found, document


def _problems(document: Document, kind: Kind, error: ValidationError) -> tuple[Problem, ...]:
    errors = (e for e in error.errors(include_url=False) if not _of_its_items(e))
    found = sorted(((_within(document, kind, e["loc"]), e) for e in errors), key=lambda p: str(p[0]))
    problems = [_problem(document, kind, path, [e for _, e in g]) for path, g in groupby(found, key=lambda p: p[0])]
    return tuple(sorted(problems, key=lambda p: (p.line, p.key)))


def _of_its_items(error: Any) -> bool:
    """Pydantic calls a list too short whose items are at fault; those are told one by one."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _within(document: Document, kind: Kind, loc: Path) -> Path:
    """`loc` without pydantic's names of union members; a missing key stays, its place is around it."""
    known = next((loc[:n] for n in range(len(loc), 0, -1) if loc[:n] in document.lines), ())
    rest, there = loc[len(known) :], _fields(kind.model, known)
    return (*known, *rest) if rest and rest[0] in there else known


def _problem(document: Document, kind: Kind, path: Path, errors: list[Any]) -> Problem:
    key, line, fault = _dotted(path) or kind.whole, document.line(path), errors[0]["type"]
    if fault == "extra_forbidden":
        return Problem(line, key, f"{key} is not known; {_suggestion(kind.model, path)}")
    if fault == "missing":
        return Problem(line, key, f"{key} is missing; add it")
    right = " or ".join(dict.fromkeys(_right(kind, e) for e in errors))
    if fault == "value_error" and isinstance(errors[0]["input"], dict):
        return Problem(line, key, right)
    return Problem(line, key, f"{key} is {_shown(errors[0]['input'])}; {right}")


def _right(kind: Kind, error: Any) -> str:
    """What the kind says of an error, else pydantic's message as what would be right."""
    if said := kind.right(error):
        return said
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"it should hold keys: {', '.join(_fields(kind.model, error['loc']))}"
    return str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "it should be")


def _suggestion(model: type[BaseModel], path: Path) -> str:
    names, last = list(_fields(model, path[:-1])), str(path[-1])
    close = get_close_matches(last, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    elsewhere = [_dotted(p) for p in _all_paths(model) if p[-1] == last]
    return f"did you mean {elsewhere[0]}?" if elsewhere else f"known here: {', '.join(names)}"


def _booleans(raw: Any, taken: Any, document: Document, path: Path) -> Iterator[Problem]:
    """Numbers written as yes or no: pydantic would take them as 1 and 0."""
    if isinstance(raw, dict) and isinstance(taken, dict):
        for name, value in raw.items():
            yield from _booleans(value, taken.get(name), document, (*path, name))
    elif isinstance(raw, list) and isinstance(taken, list | tuple):
        for i, (value, one) in enumerate(zip(raw, taken, strict=False)):
            yield from _booleans(value, one, document, (*path, i))
    elif isinstance(raw, bool) and isinstance(taken, int | float) and not isinstance(taken, bool):
        key = _dotted(path)
        yield Problem(document.line(path), key, f"{key} is {_shown(raw)}; it should be a number")


def _fields(model: type[BaseModel], path: Path) -> dict[str, type[BaseModel] | None]:
    """The keys known at `path`, with the section behind each; empty where `path` is no section."""
    at: type[BaseModel] | None = model
    for part in path:
        if at is not None and not isinstance(part, int):  # an item of a list is of the list's own section
            at = _sections(at).get(part)
    return _sections(at) if at is not None else {}


@cache
def _sections(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    return {name: _section(info.annotation) for name, info in model.model_fields.items()}


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, itself or a list of it."""
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    if get_origin(annotation) not in (Union, UnionType, tuple, list):
        return None
    return next((found for part in get_args(annotation) if (found := _section(part))), None)


@cache
def _all_paths(model: type[BaseModel], prefix: Path = ()) -> tuple[Path, ...]:
    here = [(*prefix, name) for name in _fields(model, prefix)]
    return tuple(here) + tuple(deep for path in here if _fields(model, path) for deep in _all_paths(model, path))


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _shown(value: Any) -> str:
    text = (
        {True: "true", False: "false", None: "empty"}.get(value) if value is None or isinstance(value, bool) else None
    )
    text = text or repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
