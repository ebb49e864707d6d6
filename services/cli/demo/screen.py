"""Draws the board: live on a terminal, as plain lines elsewhere. Knows no service."""

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.cli.demo.board import Board, Stage

if TYPE_CHECKING:
    from rich.table import Table

MARKS = {"waiting": "[dim]·[/]", "running": "[yellow]>[/]", "done": "[green]✓[/]", "failed": "[red]✗[/]"}
EVERY = 10.0
"""Seconds between plain lines of a running stage."""
BARS = "▁▂▃▄▅▆▇█"


@contextmanager
def drawn(board: Board) -> Generator[None]:
    """Keeps the board on the screen while the block runs."""
    with _live(board) if sys.stdout.isatty() else _plain(board):
        yield


@contextmanager
def _live(board: Board) -> Generator[None]:
    from rich.live import Live

    with Live(get_renderable=lambda: table(board), refresh_per_second=4, vertical_overflow="visible"):
        yield


@contextmanager
def _plain(board: Board) -> Generator[None]:
    over = threading.Event()
    board.changed = lambda stage: print(line(stage), flush=True)
    printer = threading.Thread(target=_repeat, args=(board, over), daemon=True)
    printer.start()
    try:
        yield
    finally:
        over.set()
        printer.join()


def _repeat(board: Board, over: threading.Event) -> None:
    last = ""
    while not over.wait(EVERY):
        for stage in [s for s in board.stages if s.state == "running" and s.says and s.says != last]:
            last = stage.says
            print(line(stage), flush=True)


def line(stage: Stage) -> str:
    """A stage on one line."""
    word = {"running": "...", "done": "done", "failed": "FAILED", "waiting": ""}[stage.state]
    return f"[{stage.seconds:6.1f} s] {stage.title}: {word} {stage.says}".rstrip()


def table(board: Board) -> "Table":
    """All stages as a table."""
    from rich.markup import escape
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for stage in board.stages:
        seconds = f"{stage.seconds:.1f} s" if stage.began is not None else ""
        bar = f"[cyan]{meter(stage.share)}[/] " if stage.share is not None else ""
        style = "dim" if stage.state == "waiting" else "bold" if stage.state == "running" else ""
        grid.add_row(MARKS[stage.state], f"[{style or 'none'}]{stage.title}[/]", seconds, bar + escape(stage.says))
    return grid


def meter(share: float, width: int = 20) -> str:
    """A bar for a share from 0 to 1."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return "━" * full + "╌" * (width - full)


def curve(values: list[float], width: int = 24) -> str:
    """A row of blocks for the last values, the highest the fullest."""
    shown = values[-width:]
    low, high = (min(shown), max(shown)) if shown else (0.0, 0.0)
    span = (high - low) or 1.0
    return "".join(BARS[int((value - low) / span * (len(BARS) - 1))] for value in shown)
