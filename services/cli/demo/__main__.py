"""`scripts/demo`: the whole loop from raw events to a better model, served, with a correction that comes back.

Exit status 0 only if the loop closed: a tuned model promoted, deployed and answering, and the correction a record again.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from services.cli.demo import ask, correct, records, report, turn
from services.cli.demo.board import Board, DemoFailed
from services.cli.demo.parts import carry_out, start
from services.cli.demo.screen import drawn
from services.cli.demo.wait import Watch

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "shell-copilot"
STAGES = ("stack", "project", "records", "dataset", "training", "evaluation", "gate", "deployment")
LAST = ("questions", "feedback")

Json = dict[str, Any]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--stop", action="store_true", help="stop the stack at the end")
    parser.add_argument(
        "--continue", dest="go_on", action="store_true", help="a second turn with the correction in its dataset"
    )
    parser.add_argument("--timeout", type=float, default=3600, help="seconds until the demo gives up (3600)")
    return parser.parse_args()


def main() -> int:
    """Runs the demo; its exit status."""
    options = arguments()
    hello = "Noria: from raw events to a better model, served."
    return carry_out("scripts/demo", hello, options, lambda board, watch: run(board, watch, options.go_on))


def run(board: Board, watch: Watch, go_on: bool) -> None:
    """All stages, then what they came to."""
    board.plan(*STAGES, *LAST, *(STAGES[3:] if go_on else ()))
    with drawn(board):
        start(board, watch)
        spec = records.apply(board, watch, EXAMPLE / "project.yaml")
        project = spec["project"]
        records.submit(board, watch, project, EXAMPLE / "records.py")
        dataset = records.freeze(board, watch, spec)
        model = train_and_deploy(board, watch, project, dataset)
        questions = ask.held_out(project, model["dataset"]["number"])
        asked = ask.ask_all(board, project, model["version"], questions)
        record = correct.feedback(board, watch, project, asked)
        if go_on:
            model = train_and_deploy(board, watch, project, records.freeze(board, watch, spec))
    finish(board, watch, model, asked, record)


def train_and_deploy(board: Board, watch: Watch, project: str, dataset: Json) -> Json:
    """A dataset's way to an answering model; the model version in production at its end.

    Raises:
        DemoFailed: the first candidate of all was rejected: nothing better than the base is there to be served.
    """
    run = turn.train(board, watch, project, dataset["number"])
    turn.evaluate(board, watch, project, run["run_id"])
    decided = turn.decide(board, watch, project, run["run_id"])
    model = turn.newest("registry", "/v1/models", project, stage="production")
    if model is None:
        raise DemoFailed(f"the gate rejected {decided['name']}@{decided['version']}: {'; '.join(decided['failed'])}")
    turn.deploy(board, watch, project, model["version"])
    return model


def finish(board: Board, watch: Watch, model: Json, asked: list[ask.Asked], record: Json) -> None:
    """Prints answers side by side and the last page."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print("\nHeld-out questions, which no training saw:")
    console.print(ask.table(asked))
    console.print(report.durations(board))
    console.print(report.comparison(model))
    number = model["dataset"]["number"]
    page = f"{watch.settings.url('prep')}/v1/datasets/{model['project']}/{number}/report"
    console.print(report.listens(watch.settings, page))
    console.print(report.next_steps(model["project"], model["version"], number, record["request_id"]), highlight=False)
    console.print("\n[green]The loop closed.[/]")


if __name__ == "__main__":
    sys.exit(main())
