"""`noria outbox`: events of every service that Kafka refused for good, with why; has them sent again or gives them up."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer

from services.cli.errors import Unreachable, Usage
from services.cli.login import login_name
from services.cli.output import AsJson, Cell, Limit, clock, note, show, table

app = typer.Typer(help="Events that Kafka refused for good.", no_args_is_help=True)
PAGE = 100
"""Events resolved in one transaction of their service."""
COLUMNS: dict[str, Cell] = {
    "service": lambda r: r["service"],
    "number": lambda r: r["number"],
    "topic": lambda r: r["topic"],
    "key": lambda r: r["key"],
    "reason": lambda r: str(r["reason"])[:100],
    "bytes": lambda r: r["bytes"],
    "time": lambda r: clock(r["created_at"]),
}
PAST = {"retry": "retried", "discard": "discarded"}

Topic = Annotated[str | None, typer.Option("--topic", help="Only of this topic.")]
Service = Annotated[str, typer.Argument(help="The service whose events they are.")]
Numbers = Annotated[list[int] | None, typer.Argument(min=0, help="The events' numbers, as `noria outbox list` shows.")]
Everything = Annotated[bool, typer.Option("--all", help="All of the service's.")]
Why = Annotated[str, typer.Option("--because", help="Why, for the audit topic.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list")
def list_refused(
    limit: Limit = 200,
    service: Annotated[str | None, typer.Option("--service", help="Only of this service.")] = None,
    topic: Topic = None,
    after: Annotated[str | None, typer.Option("--after", help="Go on behind a page: its `next`.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the events that Kafka refused, of one service after the other, oldest first: topic, key and what Kafka said."""
    away: list[str] = []
    found, following = _listed(_services(service), topic, limit, after, away if service is None else None)
    document = {"items": found, "next": following, "unreachable": away}
    show(document, as_json, lambda: table(found, COLUMNS, "Kafka refused no event"))
    if following and not as_json:
        note(f"there are more; go on with --after {following}")
    if away:
        note(f"not asked, since they do not answer: {', '.join(away)}")
        raise typer.Exit(1)


def _services(service: str | None) -> tuple[str, ...]:
    from compose.local.settings import SERVICES

    if service is not None and service not in SERVICES:
        raise Usage("unknown_service", f"{service!r} is no service; give one of: {', '.join(SERVICES)}")
    return SERVICES if service is None else (service,)


def _listed(
    services: Sequence[str], topic: str | None, limit: int, after: str | None, away: list[str] | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """Up to `limit` events, and the place after them: SERVICE:CURSOR, the cursor empty at a service's beginning.

    A service that does not answer is noted in `away`, where that is given, and left out.

    Raises:
        Unreachable, Refused: as the service answers.
    """
    from services.cli.api import items

    begin, _, cursor = (after or services[0]).partition(":")
    if begin not in services:
        raise Usage("invalid_cursor", "--after takes the `next` of an earlier page")
    found: list[dict[str, Any]] = []
    for name in services[services.index(begin) :]:
        if len(found) == limit:
            return found, f"{name}:"
        try:
            page: dict[str, Any] = items(name, "/outbox/refused", limit - len(found), after=cursor or None, topic=topic)
        except Unreachable:
            if away is None:
                raise
            away.append(name)
            page = {"items": [], "next": None}
        found += [{"service": name, **row} for row in page["items"]]
        if page["next"]:
            return found, f"{name}:{page['next']}"
        cursor = ""
    return found, None


def _resolving(verb: str) -> Callable[..., None]:
    """The command that does `verb` with the refused events that its arguments name."""

    def command(
        service: Service,
        numbers: Numbers = None,
        topic: Topic = None,
        everything: Everything = False,
        limit: Limit = 100_000,
        because: Why = "",
        dry_run: DryRun = False,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> None:
        if bool(numbers) == (everything or topic is not None):
            raise Usage("which", "say which: numbers, or --topic or --all")
        its = _services(service)
        listed, following = _listed(its, topic, limit, None) if not numbers else ([], None)
        meant = numbers or [int(row["number"]) for row in listed]
        if not (dry_run or yes or as_json) and meant:
            typer.confirm(f"{len(meant)} events of {service} are {PAST[verb]}; go on?", abort=True)
        rows = [{"number": n, "outcome": f"would be {PAST[verb]}"} for n in meant]
        if not dry_run:
            rows = list(_resolve(service, verb, meant, because))
        columns: dict[str, Cell] = {"number": lambda r: r["number"], "outcome": lambda r: r["outcome"]}
        document = {"service": service, "items": rows, "dry_run": dry_run, "more": following is not None}
        nothing = f"Kafka refused no event of {service}" + (f" to the topic {topic}" if topic else "")
        show(document, as_json, lambda: table(rows, columns, nothing))
        if following:
            note(f"there are more than --limit {limit}; type it once more")
        if any(row["outcome"] == "not refused" for row in rows):
            raise typer.Exit(1)

    return command


def _resolve(service: str, verb: str, numbers: Sequence[int], because: str) -> Iterator[dict[str, Any]]:
    """What came of each number; 'not refused' where it is not, or no more."""
    from services.cli.api import post

    for begin in range(0, len(numbers), PAGE):
        these = list(numbers[begin : begin + PAGE])
        answer = post(service, f"/outbox/{verb}", {"numbers": these, "by": login_name(), "reason": because})
        done = set(answer["resolved"])
        for number in these:
            yield {"number": number, "outcome": PAST[verb] if number in done else "not refused"}


app.command("retry", help="Have refused events sent to Kafka again, once what it refused them for is mended.")(
    _resolving("retry")
)
app.command("discard", help="Give refused events up: they are deleted, and whoever consumes their topic lacks them.")(
    _resolving("discard")
)
