"""`noria parked`: messages that wait for something they need, in every service, with the time of the next try."""

from typing import Annotated, Any

import typer

from services.cli.output import AsJson, Limit, clock, show, table

app = typer.Typer(help="Messages that wait for something they need.", no_args_is_help=True)


@app.command("list")
def list_parked(limit: Limit = 200, as_json: AsJson = False) -> None:
    """List parked messages of all services: what they wait for, how often they were tried, when they are again and until when."""
    from compose.local.settings import SERVICES
    from services.cli.api import items

    found = [{"service": name, **row} for name in SERVICES for row in items(name, "/parked", limit)["items"]]
    columns = {
        "service": lambda r: r["service"],
        "number": lambda r: r["number"],
        "reason": lambda r: r["reason"],
        "detail": lambda r: str(r["detail"])[:100],
        "topic": lambda r: r["topic"],
        "offset": lambda r: r["offset"],
        "attempts": lambda r: r["attempts"],
        "next try": lambda r: clock(r["retry_at"]),
        "dead letter at": lambda r: clock(r.get("deadline")),
    }
    document = {"items": found[:limit], "next": None, "total": len(found)}
    show(document, as_json, lambda: table(found[:limit], columns, "nothing is parked"))


@app.command("retry")
def retry(
    service: Annotated[str, typer.Argument(help="The service whose messages wait.")],
    number: Annotated[
        int | None, typer.Argument(help="One message's number; all of the service's where absent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try parked messages now rather than at their time."""
    from compose.local.settings import SERVICES
    from services.cli.api import post
    from services.cli.errors import Usage

    if service not in SERVICES:
        raise Usage("unknown_service", f"{service!r} is no service; give one of: {', '.join(SERVICES)}")
    answer: dict[str, Any] = post(service, "/parked/retry", {"number": number})
    show({"service": service, **answer}, as_json, lambda: f"{answer['hastened']} of {service} tried again now")
