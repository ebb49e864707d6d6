"""`noria feedback`: what a person says of an answer."""

from typing import Annotated, Literal

import typer

from services.cli import api
from services.cli.errors import Usage
from services.cli.output import AsJson, show


def feedback(
    request_id: Annotated[
        str | None, typer.Argument(help="`id` of the gateway's answer; absent with --conversation.")
    ] = None,
    thumb: Annotated[Literal["up", "down"] | None, typer.Option(help="Good or bad.")] = None,
    score: Annotated[float | None, typer.Option(min=0, max=1, help="From 0 to 1.")] = None,
    correction: Annotated[str | None, typer.Option(help="What the answer should have been; becomes a record.")] = None,
    chosen: Annotated[str | None, typer.Option(help="The better of two answers; with --rejected.")] = None,
    rejected: Annotated[str | None, typer.Option(help="The worse of two answers.")] = None,
    text: Annotated[str | None, typer.Option(help="Anything in words.")] = None,
    user: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    conversation: Annotated[
        str | None, typer.Option(help="Of its last answer: what requests' metadata call it; with --project.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="Whose conversation it is.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say something of an answer: thumb, score, correction, comparison or words, one or several."""
    said = {
        "thumb": thumb,
        "score": score,
        "correction": correction,
        "chosen": chosen,
        "rejected": rejected,
        "text": text,
    }
    given = {k: v for k, v in said.items() if v is not None}
    if not given:
        raise Usage(
            "nothing_said", "give at least one of --thumb, --score, --correction, --chosen with --rejected, --text"
        )
    body = {**_about(request_id, conversation, project), **given, **({"user": user} if user is not None else {})}
    answer = api.post("feedback", "/v1/feedback", body)
    waiting = "; the answer's own record has not arrived yet" if answer["status"] == "waiting" else ""
    show(answer, as_json, lambda: f"{answer['status']} as {answer['signal_id']}{waiting}")


def _about(request_id: str | None, conversation: str | None, project: str | None) -> dict[str, str]:
    if request_id is not None and conversation is None and project is None:
        return {"request_id": request_id}
    if request_id is None and conversation is not None and project is not None:
        return {"conversation": conversation, "project": project}
    raise Usage("about_what", "give the answer's id, or --conversation with --project")
