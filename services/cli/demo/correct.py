"""Says what it thinks of answers, and follows a correction back to the records of the next dataset."""

import os
from typing import Any

from compose.local import API_KEY
from services.cli import api
from services.cli.demo.ask import PATIENCE, Asked, gateway, whole
from services.cli.demo.board import Board, DemoFailed
from services.cli.demo.records import pending
from services.cli.demo.wait import Watch

Json = dict[str, Any]
USER = "demo"


def feedback(board: Board, watch: Watch, project: str, asked: list[Asked]) -> Json:
    """A thumbs-up for one answer and a correction of another; the correction as prep's record.

    Raises:
        DemoFailed: feedback refused it.
    """
    from openai import OpenAI

    with board.stage("feedback") as stage:
        best = next((a for a in asked if a.tuned.text.strip() == a.reference.strip()), asked[0])
        give(watch, best.tuned.request_id, thumb="up")
        stage.say(f"thumbs up for {best.tuned.request_id}")
        question, right = new_question(corrections())
        client = OpenAI(
            base_url=f"{gateway()}/v1", api_key=os.environ.get(API_KEY) or "none", timeout=PATIENCE, max_retries=0
        )
        answer = whole(client, project, question)
        give(watch, answer.request_id, thumb="down", correction=right)

        def back() -> Json | None:
            found = (r for r in pending(project)["records"] if r["tags"].get("request_id") == answer.request_id)
            return next(found, None)

        stage.say(f"{question!r} was answered {answer.text!r}, corrected to {right!r}; it is on its way back")
        record = watch.wait("the correction's record", back, 120)
        stage.say(
            f"thumbs up recorded; the correction came back as the accepted record {record['record_id']} of request "
            f"{record['tags']['request_id']}, for the {record['split']} part of the next dataset"
        )
        return {**record, "request_id": answer.request_id, "question": question, "correction": right}


def give(watch: Watch, request_id: str, **said: str) -> None:
    """Gives feedback and waits until it is recorded.

    Raises:
        DemoFailed: it was refused.
    """
    taken = api.post("feedback", "/v1/feedback", {"request_id": request_id, "user": USER, **said})

    def settled() -> Json | None:
        states = [api.get("feedback", f"/v1/feedback/{signal['signal_id']}") for signal in taken["signals"]]
        refused = next((s for s in states if s["status"] == "refused"), None)
        if refused is not None:
            raise DemoFailed(f"feedback on {request_id} was refused: {refused['reason']}: {refused['detail']}")
        return taken if all(s["status"] == "recorded" for s in states) else None

    watch.wait(f"the record of {request_id}", settled, 60)


def corrections() -> int:
    """How many corrections the demo has ever given, so that each is a new one and no duplicate in the dataset."""
    items = api.items("feedback", "/v1/feedback", 10_000)["items"]
    return sum(item["kind"] == "correction" and item.get("user") == USER for item in items)


def new_question(number: int) -> tuple[str, str]:
    """A question that no dataset holds, and its right answer; another one for each number."""
    lines = 11 + number
    return (
        f"tail: start with the last {lines} lines of app-{lines}.log and follow it when it is rotated",
        f"tail -n {lines} -F app-{lines}.log",
    )
