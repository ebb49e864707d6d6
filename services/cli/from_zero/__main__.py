"""`scripts/examples from-zero`: a project without a record learns from what simulated users say of its answers, turn by turn.

Exit status 0 only if every turn went from answers to a verdict; whether the versions became better is told, whatever it is.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.cli import api, kafka
from services.cli.demo import produce, records
from services.cli.demo.board import Board, DemoFailed
from services.cli.demo.parts import carry_out, start
from services.cli.demo.screen import drawn
from services.cli.demo.wait import Watch
from services.cli.errors import Refused
from services.cli.from_zero import about, results, traffic, users, wheel
from services.cli.from_zero.results import Measured
from services.cli.from_zero.users import Question
from services.lm.scoring.metrics import exact_match

ROOT = Path(__file__).parents[3]
PROJECT = ROOT / "docs" / "examples" / "from-zero" / "project.yaml"
QUESTIONS = ROOT / "docs" / "examples" / "shell-copilot" / "records.py"
RESULTS = ROOT / "docs" / "results.md"
TURN = ("questions", "dataset", "training", "evaluation", "gate", "deployment")
CONTROL = ("control: project", "control: records", *TURN[1:])

Json = dict[str, Any]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/examples from-zero", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--turns", type=int, default=3, help="how often the wheel turns (3)")
    parser.add_argument("--requests", type=int, default=300, help="what users ask in each turn (300)")
    parser.add_argument("--unseen", type=int, default=120, help="questions that nobody asks, to measure with (120)")
    parser.add_argument("--seed", type=int, default=1, help="who asks what, and says what (1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures are written (docs/results.md)")
    parser.add_argument("--no-control", action="store_true", help="without the control that has no preference stage")
    parser.add_argument("--stop", action="store_true", help="stop the stack at the end")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds until the example gives up (7200)")
    given = parser.parse_args()
    if given.turns < 1 or given.requests < 1:
        parser.error("--turns and --requests are to be at least 1")
    return given


def main() -> int:
    """Runs the example; its exit status."""
    options = arguments()
    hello = "From zero: no record, a base, and people."
    return carry_out("scripts/examples from-zero", hello, options, lambda board, watch: run(board, watch, options))


def run(board: Board, watch: Watch, options: argparse.Namespace) -> None:
    """All turns, the measuring and the page."""
    began = time.monotonic()
    try:
        unseen, asked = users.part(questions(), options.unseen, options.seed)
    except ValueError as error:
        raise DemoFailed(f"--unseen: {error}") from error
    people = users.people(options.seed)
    turns = users.turns(asked, people, options.turns, options.requests, options.seed)
    control = () if options.no_control else CONTROL
    board.plan("stack", "project", *TURN * len(turns), *control, "measuring")
    with drawn(board):
        start(board, watch)
        project = free_name()
        define(board, watch, project, options.requests, {})
        versions: list[wheel.Version] = []
        for turn in turns:
            ask(board, project, turn, asked)
            versions.append(wheel.go_round(board, watch, project, versions[-1].dataset["number"] if versions else 0))
        other = None if options.no_control else make_control(board, watch, project, versions[-1])
        found = measure(board, watch, project, versions, other, unseen)
    pairs = about.pairs(versions, other is not None)
    told = about.told(options, project, versions, len(asked), time.monotonic() - began)
    options.results.write_text(results.page(told, found, pairs), encoding="utf-8")
    finish(board, found, pairs, options.results, project)


def questions() -> list[Question]:
    """The example's questions with their right answers.

    Raises:
        DemoFailed: the example's script failed.
    """
    turns = [record["record"]["messages"] for record in produce.example_records(QUESTIONS)]
    return [Question(user["content"], assistant["content"]) for user, assistant in turns]


def free_name() -> str:
    """'from-zero', or the first of 'from-zero-2', ... that is no project yet: each run begins without a record."""
    number = 1
    while True:
        name = "from-zero" if number == 1 else f"from-zero-{number}"
        try:
            api.get("registry", f"/v1/projects/{name}")
        except Refused as error:
            if error.status == 404:
                return name
            raise
        number += 1


def define(board: Board, watch: Watch, project: str, requests: int, changed: Json, title: str = "project") -> None:
    """Applies the example's project file under a name and waits until it answers.

    A turn's answers make one dataset: half as many examples as requests let it be frozen once users are quiet, and more than
    as many, which would not wait for quiet, do not come.
    """
    from services.cli.first_answer import wait_for_answer
    from services.cli.project_file import parse

    with board.stage(title) as stage:
        spec: Json = {**parse(PROJECT.read_bytes()).model_dump(mode="json"), "project": project, **changed}
        spec["prep"]["freeze"]["records"] = max(1, requests // 2)
        api.post("registry", "/v1/projects", spec)
        watch.wait("the project at ingestion", lambda: records.counts(project), 60)
        watch.wait("the project at prep", lambda: records.pending(project), 60)
        answers = wait_for_answer(project, 120, stage.say)
        if "why" in answers:
            raise DemoFailed(f"{project} does not answer: {answers['why']}")
        stage.say(f"{project}: {answers['model']} answers after {answers['seconds']} s, without a record")


def ask(board: Board, project: str, turn: users.Turn, asked: Sequence[Question]) -> None:
    """A turn's questions and what users say of the answers."""
    with board.stage("questions") as stage:
        total = len(turn.asked)
        answers = traffic.use(
            project, turn, asked, lambda done: stage.say(f"{done}/{total} asked and judged", done / total)
        )
        right = sum(exact_match(a.text, a.question.reference) == 100 for a in answers)
        by = ", ".join(sorted({a.version for a in answers}))
        stage.say(f"{total} asked of version {by}, {right} answered to the letter; each was corrected or got a thumb")


def make_control(board: Board, watch: Watch, project: str, version: wheel.Version) -> wheel.Version:
    """A project of its own that learns from the same conversations by SFT alone."""
    name = f"{project}-sft"
    spec = api.get("registry", f"/v1/projects/{project}")["spec"]
    recipe = {**spec["train"], "stages": []}
    rows = about.conversations(version.dataset)
    define(board, watch, name, len(rows), {"train": recipe}, title="control: project")
    with board.stage("control: records") as stage:
        kafka.run(produce.produce(name, rows))
        stage.say(f"the {len(rows)} conversations of dataset {version.dataset['number']}, without pairs")
    return wheel.go_round(board, watch, name, 0)


def measure(
    board: Board,
    watch: Watch,
    project: str,
    versions: Sequence[wheel.Version],
    control: wheel.Version | None,
    unseen: Sequence[Question],
) -> list[Measured]:
    """Every version's answers to the questions that nobody asked; one that the gate rejected is put into service for it."""
    found: list[Measured] = []
    served = max((v.number for v in versions if v.promoted), default=0)
    with board.stage("measuring") as stage:

        def scored(name: str, model: str, version: int, what: str) -> None:
            def told(done: int) -> None:
                stage.say(f"{name}: {done}/{len(unseen)}")

            answers = traffic.ask(model, unseen, told)
            wrong = {a.version for a in answers} - {str(version)}
            if wrong:
                raise DemoFailed(f"version {version} was to be measured, but {', '.join(sorted(wrong))} answered")
            found.append(results.measured(name, what, answers))

        try:
            scored("base", f"{project}@base", 0, "version 0: what there is without feedback")
            for version in versions:
                wheel.promote(watch, project, version.number, "measured on questions that nobody asked")
                scored(f"version {version.number}", project, version.number, about.words(version))
            if control is not None:
                wheel.promote(watch, f"{project}-sft", control.number, "measured as a control")
                what = f"the conversations of version {versions[-1].number} by SFT alone"
                scored("control", f"{project}-sft", control.number, what)
        finally:  # Ctrl-C too: what the gate rejected does not stay in service
            wheel.restore(watch, project, served)
        stage.say(
            f"{len(found)} models on {len(unseen)} questions each; version {served or 'base'} is in service again"
        )
    return found


def finish(board: Board, found: list[Measured], pairs: list[tuple[str, str]], page: Path, project: str) -> None:
    """Prints the figures and what to type next."""
    from rich.console import Console

    from services.cli.demo import report
    from services.cli.output import plain_table

    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(report.durations(board))
    for head, lines in ((results.HEAD, results.rows(found)), (results.PAIRED, results.comparisons(found, pairs))):
        grid = plain_table(head)
        for line in lines:
            grid.add_row(*line)
        console.print(grid)
    console.print(f"Written to {page}. What to look at next:", highlight=False)
    for command in (f"models {project}", f"explain {project}@1", f"report {project}", f"review list {project}"):
        console.print(f"  .venv/bin/noria {command}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
