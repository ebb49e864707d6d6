"""Every setting is read, by its own service and as a setting; docs/operations.md tells each with its true default."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from services.chassis.settings import Settings

ROOT = Path(__file__).parents[2]
MODULES = (
    "services.chassis",
    "compose.local",
    *(f"services.{path.parent.name}" for path in ROOT.glob("services/*/settings.py") if path.parent.name != "chassis"),
)
OF_THE_ENVIRONMENT = {"API_KEY", "GC_API_KEY", "TRITON_THREADS"}
"""Read from the environment itself by what has no class of settings."""
IN_WORDS = {
    "api_keys": "`state/api-keys.json` under home",
    "artifacts": "`file://` under home",
    "database": "SQLite under home",
    "kafka_ssl_cafile": "the system's",
}
"""What stands for None."""


@cache
def classes() -> tuple[type[BaseSettings], ...]:
    """Every class of settings."""
    found = (each for name in MODULES for each in vars(import_module(f"{name}.settings")).values())
    own = (each for each in found if isinstance(each, type) and issubclass(each, BaseSettings))
    return tuple({each: None for each in own if each.__module__.startswith(("services.", "compose."))})


def own_fields(owner: type[BaseSettings]) -> set[str]:
    """The fields that a class has beyond those of the chassis; one that it gives another default is the chassis'."""
    inherited = set(Settings.model_fields) if owner is not Settings and issubclass(owner, Settings) else set[str]()
    return set(owner.model_fields) - inherited


def is_settings(expression: ast.AST, held: set[str]) -> bool:
    """Whether an expression is a settings object: by its name, by its annotation, or made by a class or function of that name."""
    called = expression.func if isinstance(expression, ast.Call) else expression
    last = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return last.lower().endswith("settings") or last in held


def held_names(tree: ast.AST) -> set[str]:
    """Names that hold settings though they are not called so."""
    held: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            held |= {node.arg} if ast.unparse(node.annotation).strip("\"'").endswith("Settings") else set()
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            held |= {node.targets[0].id} if is_settings(node.value, set()) else set()
    return held


def read_of(tree: ast.AST, settings: set[str], *, of_self: bool = False) -> set[str]:
    """Attributes of settings that are read; of a name that is put together for getattr, '*' and its ending."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            mine = of_self and isinstance(node.value, ast.Name) and node.value.id == "self"
            found |= {node.attr} if mine or is_settings(node.value, settings) else set()
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "getattr"
            and isinstance(node.args[1], ast.JoinedStr)
        ):
            mine = of_self and ast.unparse(node.args[0]) == "self"
            last = node.args[1].values[-1]
            if (mine or is_settings(node.args[0], settings)) and isinstance(last, ast.Constant):
                found.add(f"*{last.value}")
    return found


def members(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """(name, attributes of self that it reads) of each property and method of the classes of settings in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any("Settings" in ast.unparse(base) for base in node.bases):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    yield member.name, read_of(member, set(), of_self=True)


def reads(trees: Mapping[Path, ast.AST], folder: str, owner: str) -> set[str]:
    """What is read of settings in a folder, and in modules that name the class; also through properties that are read."""
    near = [
        tree
        for path, tree in trees.items()
        if path.is_relative_to(folder) or re.search(rf"\b{owner}\b", ast.unparse(tree))
    ]
    found = {name for tree in near for name in read_of(tree, held_names(tree))}
    through = dict(each for path, tree in trees.items() if path.is_relative_to(folder) for each in members(tree))
    while more := {name for member in found & set(through) for name in through[member]} - found:
        found |= more
    return found


@cache
def code() -> Mapping[Path, ast.AST]:
    """The code that runs, by its path in the repository."""
    files = [path for folder in ("contracts", "services", "compose") for path in (ROOT / folder).rglob("*.py")]
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in files}


def unread(fields: set[str], found: set[str]) -> set[str]:
    endings = tuple(name[1:] for name in found if name.startswith("*"))
    return {field for field in fields - found if not (endings and field.endswith(endings))}


@pytest.mark.parametrize("owner", classes(), ids=lambda owner: owner.__name__)
def test_every_setting_is_read(owner: type[BaseSettings]) -> None:
    folder = "services" if owner is Settings else "/".join(owner.__module__.split(".")[:-1])
    assert unread(own_fields(owner), reads(code(), folder, owner.__name__)) == set()


def test_what_is_read_of_other_objects_or_by_a_dead_property_is_not_read() -> None:
    settings = "class TinySettings(Settings):\n days: int = 1\n hours: int = 1\n def age(self): return self.hours\n"
    user = "def f(settings, batch, where: TinySettings): return batch.days, {}, where.size, getattr(settings, f'{{x}}_port')"
    for read, left in (("batch.hours", {"days", "hours"}), ("settings.age", {"days"}), ("settings.days", {"hours"})):
        sources = {"services/tiny/settings.py": settings, "services/tiny/app.py": user.format(read)}
        found = reads({Path(path): ast.parse(text) for path, text in sources.items()}, "services/tiny", "TinySettings")
        assert unread({"days", "hours", "size", "a_port"}, found) == left


def rows() -> Iterator[tuple[str, str]]:
    """(setting without NORIA_, its default) as the page tells them."""
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page[page.index("## Settings") : page.index("## Who may do what")]
    for line in section.splitlines():
        if line.startswith("| `NORIA_"):
            cells = line.split("|")
            names, told = re.findall(r"`NORIA_([A-Z_<>]+)`", cells[1]), cells[2].strip()
            each = told.split(", ") if len(told.split(", ")) == len(names) else [told] * len(names)
            yield from zip(names, each, strict=True)


def rendered(owner: type[BaseSettings], field: str) -> str:
    """A field's default as the page shall tell it."""
    value: Any = owner.model_fields[field].get_default(call_default_factory=True)
    if value is None or value == [] or value == {}:
        return IN_WORDS.get(field, "none")
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    assert not isinstance(value, SecretStr)
    return f"{value:.10g}" if isinstance(value, int | float) else f"`{value}`"


def names_of(owner: type[BaseSettings], field: str) -> set[str]:
    """How the page may call it."""
    name, service = field.upper(), owner.__name__.removesuffix("Settings").upper()
    return {name, f"<SERVICE>_{name}"} if owner is Settings else {name, f"{service}_{name}"}


def test_every_setting_is_documented_with_its_default_and_no_other() -> None:
    told = dict(rows())
    ports = {
        owner.__name__.removesuffix("Settings").lower(): owner.model_fields["port"].default
        for owner in classes()
        if issubclass(owner, Settings) and owner is not Settings
    }
    assert told.pop("<SERVICE>_PORT") == f'{min(ports.values())} to {max(ports.values())}, see "Health"'
    stack = next(owner for owner in classes() if owner.__name__ == "StackSettings")
    assert ports == {service: stack.model_fields[f"{service}_port"].default for service in ports}
    gateway = next(owner for owner in classes() if owner.__name__ == "ServingSettings")
    expected: dict[str, str] = {}
    missing: set[str] = set()
    for owner in classes():
        for field in own_fields(owner) - {"port", *(f"{service}_port" for service in ports)}:
            here = names_of(owner, field) & set(told)
            missing |= set() if here else {f"{owner.__name__}.{field}"}
            expected |= dict.fromkeys(here, rendered(owner, field))
    expected["MAX_BODY_BYTES"] += f" (gateway {rendered(gateway, 'max_body_bytes')})"
    assert missing == set()
    assert told == expected | {name: told[name] for name in OF_THE_ENVIRONMENT}


def test_a_service_changes_no_other_default_of_the_chassis() -> None:
    changed = {
        (owner.__name__, field)
        for owner in classes()
        if issubclass(owner, Settings)
        for field in Settings.model_fields
        if field != "port" and owner.model_fields[field].default != Settings.model_fields[field].default
    }
    assert changed == {("ServingSettings", "max_body_bytes")}
