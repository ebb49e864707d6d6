"""The demo's last page: how long each stage took, base against tuned, what to try next, where things listen."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from services.cli.demo.board import Board
from services.cli.output import plain_table

if TYPE_CHECKING:
    from rich.table import Table

    from compose.local.settings import StackSettings


def durations(board: Board) -> "Table":
    """Stages with their seconds and results."""
    from rich.markup import escape

    grid = plain_table(("stage", "seconds", "result"))
    for stage in board.stages:
        grid.add_row(stage.title, f"{stage.seconds:.1f}", escape(stage.says))
    grid.add_row("all", f"{sum(s.seconds for s in board.stages):.1f}", "")
    return grid


def comparison(model: Mapping[str, Any]) -> "Table":
    """Base against tuned on every metric, with 95% intervals and whether they are apart."""
    tuned, base = model["metrics"], model["base_metrics"]
    name = f"{model['name']}@{model['version']}"
    grid = plain_table(("metric", "base [95% interval]", f"{name} [95% interval]", "verdict"))
    for metric in sorted(tuned.keys() & base.keys()):
        grid.add_row(metric, interval(base[metric]), interval(tuned[metric]), verdict(base[metric], tuned[metric]))
    return grid


def interval(metric: Mapping[str, Any]) -> str:
    """A metric as 'value [low, high] n'."""
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}] n={metric['n']}"


def verdict(base: Mapping[str, Any], tuned: Mapping[str, Any]) -> str:
    """Better, worse or undecided: intervals that overlap decide nothing."""
    if base["low"] <= tuned["high"] and tuned["low"] <= base["high"]:
        return "undecided: the intervals overlap"
    better = (tuned["value"] > base["value"]) == base.get("higher_is_better", True)
    return "[green]better[/]: the intervals are apart" if better else "[red]worse[/]: the intervals are apart"


def next_steps(project: str, version: int, dataset: int, request_id: str) -> str:
    """Commands worth typing now."""
    return "\n".join(
        (
            "What to try next:",
            f'  .venv/bin/noria chat {project} "tar: list the files in an archive"',
            f"  .venv/bin/noria lineage {project}@{version}        what the model was made of",
            f"  .venv/bin/noria datasets show {project}@{dataset}  what it was trained on",
            f"  .venv/bin/noria feedback {request_id} --thumb up",
            "  .venv/bin/noria watch                         every event, live",
            "  .venv/bin/noria status                        processes, lag, dead letters",
            "  scripts/demo --continue                       train on with the correction",
            "  docs/tutorial.md                              your own project",
        )
    )


def listens(settings: "StackSettings", profile: str) -> "Table":
    """Where each part listens, where state and logs lie, and the page with the dataset's profile."""
    from services.cli.verbs.stack import addresses

    grid = plain_table(("where", "address"))
    for name, address in addresses(settings).items():
        grid.add_row(f"{name} (OpenAI API under /v1)" if name == "serving" else name, address)
    grid.add_row("logs", str(settings.home / "logs"))
    grid.add_row("the dataset's profile", profile)
    return grid
