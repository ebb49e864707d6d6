"""No setting that nothing reads, no metric that nobody observes, no metric in the documents that is not there."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
OBSERVING = {"inc", "dec", "set", "observe", "time", "track_inprogress", "set_function"}
MADE = {"counter", "gauge", "histogram"}


@cache
def trees() -> tuple[ast.Module, ...]:
    """The code that runs."""
    files = [path for folder in ("contracts", "services", "compose") for path in (ROOT / folder).rglob("*.py")]
    return tuple(ast.parse(path.read_text()) for path in files)


def nodes(kind: type[ast.AST]) -> Iterator[ast.AST]:
    return (node for tree in trees() for node in ast.walk(tree) if isinstance(node, kind))


def settings() -> set[str]:
    """The fields of every class of settings."""
    return {field for _, field in settings_by_class()}


def settings_by_class() -> set[tuple[str, str]]:
    """(class, field) of every class of settings."""
    found: set[tuple[str, str]] = set()
    for node in nodes(ast.ClassDef):
        assert isinstance(node, ast.ClassDef)
        if any("Settings" in ast.unparse(base) for base in node.bases):
            fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
            names = {ast.unparse(each.target) for each in fields if "ClassVar" not in ast.unparse(each.annotation)}
            found |= {(node.name, name) for name in names}
    return found


def read_attributes() -> tuple[set[str], set[str]]:
    """Names that are read as attributes, and endings of names that are put together for getattr."""
    names = {n.attr for n in nodes(ast.Attribute) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    endings: set[str] = set()
    for node in nodes(ast.Call):
        assert isinstance(node, ast.Call)
        if ast.unparse(node.func) == "getattr" and isinstance(node.args[1], ast.JoinedStr):
            last = node.args[1].values[-1]
            endings |= {str(last.value)} if isinstance(last, ast.Constant) else set()
    return names, endings


def test_every_setting_is_read() -> None:
    names, endings = read_attributes()
    unread = {name for name in settings() - names if not any(name.endswith(ending) for ending in endings)}
    assert len(settings()) > 40
    assert unread == set()


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page[page.index("## Settings") : page.index("## Who may do what")]
    told = {
        name
        for line in section.splitlines()
        if line.startswith("| `NORIA_")
        for name in re.findall(r"`NORIA_([A-Z_<>]+)`", line.split("|")[1])
    }
    missing: set[str] = set()
    for owner, field in settings_by_class():
        name = field.upper()
        service = owner.removesuffix("Settings").upper()
        if not told & {name, f"{service}_{name}", f"<SERVICE>_{name}", re.sub("^[A-Z]+_PORT$", "<SERVICE>_PORT", name)}:
            missing.add(f"{owner}.{field}")
    assert missing == set()


def metrics() -> dict[str, str]:
    """Attribute -> metric, of all that are made by a service's `Metrics`."""
    found: dict[str, str] = {}
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
                pairs = [(node.targets[0].attr, node.value)]
            elif isinstance(node, ast.Call):
                pairs = [(word.arg or "", word.value) for word in node.keywords]
            else:
                continue
            for name, made in pairs:
                if isinstance(made, ast.Call) and isinstance(made.func, ast.Attribute) and made.func.attr in MADE:
                    first = made.args[0]
                    if isinstance(first, ast.Constant) and isinstance(first.value, str):
                        found[name] = first.value
    return found


def observed() -> set[str]:
    """Attributes of which a metric's method is called, of themselves or of their labels."""
    found: set[str] = set()
    for node in nodes(ast.Call):
        assert isinstance(node, ast.Call)
        if isinstance(node.func, ast.Attribute) and node.func.attr in OBSERVING:
            metric = node.func.value
            if isinstance(metric, ast.Call) and isinstance(metric.func, ast.Attribute) and metric.func.attr == "labels":
                metric = metric.func.value
            found |= {metric.attr} if isinstance(metric, ast.Attribute) else set()
    return found


def test_every_metric_is_observed() -> None:
    assert len(metrics()) > 30
    assert {name: metric for name, metric in metrics().items() if name not in observed()} == {}


def test_every_metric_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page[page.index("## Metrics") : page.index("No metric has an id")]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    prose = section[section.index("Of the gateway besides") : section.index("Triton's own metrics")]
    told = {
        name for text in (*(line.split("|")[1] for line in lines), prose) for name in re.findall(r"`([a-z_]+)`", text)
    }
    assert told == set(metrics().values())
