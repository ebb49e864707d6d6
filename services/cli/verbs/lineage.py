"""`noria lineage`: what a model version was made of, as a tree."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import api
from services.cli.model_name import parse
from services.cli.output import AsJson, metric, show, text

if TYPE_CHECKING:
    from rich.tree import Tree


def lineage(
    model: Annotated[str, typer.Argument(help="MODEL@VERSION, as shell-copilot@1.")], as_json: AsJson = False
) -> None:
    """Show what a model version was made of: dataset, project, base, run, evaluation, code, environment."""
    name, version = parse(model)
    found = api.get("registry", f"/v1/models/{name}/{version}/lineage")
    # A person finds the specification under its revision; --json has it whole.
    short = found | {"project": {k: v for k, v in found.get("project", {}).items() if k != "spec"}}
    show(found, as_json, lambda: tree(f"{name}@{version}", short))


def tree(label: str, value: Mapping[str, Any]) -> "Tree":
    """A JSON object as a tree; artifacts and metrics take one line."""
    from rich.markup import escape
    from rich.tree import Tree

    root = Tree(escape(label))
    for key, item in value.items():
        if isinstance(item, Mapping) and not _is_leaf(item):
            root.add(tree(key, item))
        elif isinstance(item, list) and any(isinstance(part, Mapping) for part in item):
            root.add(tree(key, {str(i): part for i, part in enumerate(item, 1)}))
        else:
            root.add(escape(f"{key}: {_leaf(item)}"))
    return root


def _is_leaf(value: Mapping[str, Any]) -> bool:
    return not value or "sha256" in value or {"value", "low", "high"} <= set(value)


def _leaf(value: Any) -> str:
    if isinstance(value, Mapping) and "sha256" in value:
        return f"{value.get('bytes', '?')} bytes, sha256 {value['sha256'][:12]}, {value.get('uri', '')}"
    if isinstance(value, Mapping):
        return metric(value) if value else "-"
    if isinstance(value, list):
        return ", ".join(map(text, value)) or "-"
    return text(value)
