"""No metric that nobody observes, no metric in the documents that is not there; of settings: test_every_setting.py."""

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


@cache
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


@cache
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
