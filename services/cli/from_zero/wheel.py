"""One turn of the wheel as it goes by itself: what users said becomes a dataset, a candidate, a verdict. Starts none of them."""

from dataclasses import dataclass
from typing import Any

from services.cli import api
from services.cli.demo import turn
from services.cli.demo.board import Board, DemoFailed
from services.cli.demo.records import pending
from services.cli.demo.wait import Watch
from services.cli.output import text

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """A version that came of a turn; `decided` is the registry's document of it, `dataset` prep's."""

    number: int
    promoted: bool
    decided: Json
    dataset: Json


def go_round(board: Board, watch: Watch, project: str, known: int) -> Version:
    """Follows a turn from the dataset after number `known` to the gate's decision, and to the answer of what it promotes.

    Raises:
        DemoFailed: a stage failed, or did not come in time.
    """
    while True:
        dataset = _dataset(board, watch, project, known)
        try:
            run = turn.train(board, watch, project, dataset["number"])
            break
        except turn.Superseded:
            known = dataset["number"]
    turn.evaluate(board, watch, project, run["run_id"])
    decided = turn.decide(board, watch, project, run["run_id"])
    promoted = decided["stage"] == "production"
    if promoted:
        turn.deploy(board, watch, project, decided["version"])
    else:
        with board.stage("deployment") as stage:
            stage.say("what was in service stays")
    return Version(decided["version"], promoted, decided, dataset)


def _dataset(board: Board, watch: Watch, project: str, known: int) -> Json:
    with board.stage("dataset") as stage:

        def look() -> Json | None:
            waiting, found = pending(project), turn.newest("prep", "/v1/datasets", project)
            if waiting.get("failure"):
                raise DemoFailed(f"the dataset was not frozen: {text(waiting['failure'])}; {watch.log('prep')}")
            stage.say(f"{waiting['changed']} examples wait until none has come for a while")
            return found if found and found["number"] > known else None

        dataset = watch.wait("the dataset", look, 300)
        stage.say(f"#{dataset['number']}: {text(dataset['counts'])}")
        return dataset


def promote(watch: Watch, project: str, version: int, reason: str) -> None:
    """Puts a version into service by hand and waits until it answers."""
    api.post("registry", f"/v1/models/{project}/{version}/promote", {"by": "example", "reason": reason})
    _answers(watch, project, version)


def restore(watch: Watch, project: str, version: int) -> None:
    """Puts back what was in service, 0 for the base, and waits until it answers."""
    body = {"by": "example", "reason": "what was in service before the measuring", "to": version}
    api.post("registry", f"/v1/models/{project}/rollback", body)
    _answers(watch, project, version)


def _answers(watch: Watch, project: str, version: int) -> None:
    wanted = f"{project}@{version or 'base'}"

    def look() -> bool | None:
        card = api.get("serving", f"/v1/models/{project}")
        return True if card["ready"] and card["root"] == wanted else None

    watch.wait(f"{wanted} at the gateway", look, 300)
