"""Prints what a verb found: a document on stdout for programs, tables and trees for people. Knows no service."""

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]
Project = Annotated[str | None, typer.Option("--project", help="Only of this project.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")]

Cell = Callable[[Mapping[str, Any]], object]


def show(document: Any, as_json: bool, render: "Callable[[], RenderableType]") -> None:
    """Print `document` as JSON, or what `render` makes of it for people."""
    if as_json:
        print(json.dumps(document, ensure_ascii=False, indent=2))
        return
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 160
    Console(width=wide).print(render())


def note(text: str) -> None:
    """Tell a person something beside the result, on stderr."""
    print(text, file=sys.stderr, flush=True)


def drop_stdout() -> None:
    """Forget what nobody reads any more: the interpreter would wait for a reader, or complain, while it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Cell], empty: str) -> "RenderableType":
    """A table of `rows`, one column a function; `empty` where there are none."""
    from rich.markup import escape

    if not rows:
        return empty
    grid = plain_table(columns)
    for row in rows:
        grid.add_row(*(escape(text(cell(row))) for cell in columns.values()))
    return grid


def plain_table(columns: Iterable[str]) -> "Table":
    """A table without lines between cells; nothing is ever cut off."""
    from rich.box import SIMPLE
    from rich.table import Table

    grid = Table(box=SIMPLE, pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    return grid


def text(value: object) -> str:
    """A cell's value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {text(v)}" for k, v in value.items()) or "-"
    return str(value)


def brief(raw: object, length: int = 160) -> str | None:
    """A long text's beginning on one line; None where there is none."""
    if not raw:
        return None
    words = " ".join(str(raw).split())
    return words if len(words) <= length else f"{words[:length]}..."


def printable(text: str) -> str:
    """A text of somebody else's without the signs that steer a terminal (Unicode's categories C)."""
    return "".join("\ufffd" if unicodedata.category(sign)[0] == "C" else sign for sign in text)


def clock(raw: object) -> str:
    """An ISO 8601 time as local date and time; anything else as it is."""
    if not isinstance(raw, str):
        return text(raw)
    try:
        return datetime.fromisoformat(raw).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return raw


def metric(value: Any) -> str:
    """A Metric's JSON as 'value [low, high]'."""
    if not isinstance(value, Mapping):
        return text(value)
    return f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
