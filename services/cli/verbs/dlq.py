"""`noria dlq`: messages that no service could take, with the reason; sends them again or gives them up."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.dead_letters import DeadLetterFilter, check_id, dead_letter_document, described, moment
from services.cli.errors import ConsoleError, Unreachable, Usage
from services.cli.login import login_name
from services.cli.output import AsJson, Cell, Limit, clock, note, show, table

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

    from services.cli.dead_letter_index import After, DeadLetterIndex
    from services.cli.resolve import Action, Resolution

app = typer.Typer(help="Messages that could not be taken.", no_args_is_help=True)
PAGE = 200
"""Letters held in memory while many are settled."""
COLUMNS: dict[str, Cell] = {
    "id": lambda r: str(r["id"])[:13],
    "reason": lambda r: r["reason"],
    "detail": lambda r: str(r["detail"])[:100],
    "topic": lambda r: r["topic"],
    "partition": lambda r: r["partition"],
    "offset": lambda r: r["offset"],
    "group": lambda r: r["group"],
    "bytes": lambda r: r["bytes"],
    "time": lambda r: clock(r["time"]),
}


Topic = Annotated[str | None, typer.Option("--topic", help="Only of this original topic.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Only with this reason, as not_json.")]
Group = Annotated[str | None, typer.Option("--group", help="Only of this consumer group.")]
Since = Annotated[str | None, typer.Option("--since", help="Only from then on: RFC 3339, or how long ago, as 2h.")]
Until = Annotated[str | None, typer.Option("--until", help="Only up to then: RFC 3339, or how long ago, as 2h.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of dead letters, or their beginnings.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Why = Annotated[str, typer.Option("--because", help="Why, for the audit topic.")]


@app.command("list")
def list_letters(
    limit: Limit = 1000,
    topic: Topic = None,
    reason: Reason = None,
    group: Group = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[bool, typer.Option("--all", help="Those too that were redriven or discarded.")] = False,
    after: Annotated[str | None, typer.Option("--after", help="Go on behind a page: its `next`.")] = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters that nobody settled, newest first: reason, topic, partition and offset."""
    from services.cli.kafka import run

    wanted = _wanted(None, topic, reason, group, since, until)
    found, following, total = run(_listed(wanted, limit, _place(after), open_only=not everything))
    columns = COLUMNS | ({"settled": lambda r: _fate(r["settled"])} if everything else {})
    document = {"items": found, "next": _cursor(following), "total": total}
    show(document, as_json, lambda: table(found, columns, "no dead letters"))
    if document["next"] and not as_json:
        note(f"{len(found)} of {total}; go on with --after {document['next']}")


async def _listed(
    wanted: DeadLetterFilter, limit: int, after: "After | None", *, open_only: bool
) -> "tuple[list[dict[str, Any]], After | None, int]":
    from services.cli.dead_letter_reader import reading

    async with reading() as (_, index):
        found, following = index.page(wanted, limit, after, open_only=open_only)
        return (
            [_without_place(dead_letter) for dead_letter in found],
            following,
            index.count(wanted, open_only=open_only),
        )


def _without_place(dead_letter: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in dead_letter.items() if name != "kept"}


def _cursor(place: "After | None") -> str | None:
    return urlsafe_b64encode(json.dumps(place).encode()).decode() if place else None


def _place(cursor: str | None) -> "After | None":
    if cursor is None:
        return None
    try:
        at, id = json.loads(urlsafe_b64decode(cursor))
        return float(at), str(id)
    except (ValueError, TypeError) as error:
        raise Usage("invalid_cursor", "--after takes the `next` of an earlier page") from error


@app.command("show")
def show_letter(
    id: Annotated[str, typer.Argument(help="A dead letter's id or its beginning, as `noria dlq list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show a dead letter as it came, its headers and its value, and what became of it."""
    from rich.markup import escape

    from services.cli.kafka import run

    check_id(id)
    found = run(_whole(id))
    show(found, as_json, lambda: escape("\n".join(described(found))))


async def _whole(id: str) -> dict[str, Any]:
    from services.cli.dead_letter_reader import fetch, reading

    async with reading() as (reader, index):
        (found,), _ = index.page(DeadLetterFilter(ids=index.resolve([id])), 1, open_only=False)
        return {**dead_letter_document(await fetch(reader, found["kept"])), "settled": found["settled"]}


def _resolving(action: "Action") -> Callable[..., None]:
    """The command that does `action` with the dead letters that its options name."""

    def command(
        ids: Ids = None,
        topic: Topic = None,
        reason: Reason = None,
        group: Group = None,
        since: Since = None,
        until: Until = None,
        limit: Limit = 100_000,
        because: Why = "",
        dry_run: DryRun = False,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> None:
        _resolve(action, _wanted(ids, topic, reason, group, since, until), limit, because, dry_run, yes, as_json)

    return command


app.command(
    "redrive",
    help="Send dead letters' messages to their topic again, each letter once. The letters stay where they are.",
)(_resolving("redriven"))
app.command(
    "discard",
    help="Give dead letters up: they are listed no more, and cannot be redriven. The letters stay where they are.",
)(_resolving("discarded"))


def _wanted(
    ids: list[str] | None,
    topic: str | None,
    reason: str | None,
    group: str | None,
    since: str | None,
    until: str | None,
) -> DeadLetterFilter:
    now = datetime.now(UTC)
    return DeadLetterFilter(tuple(ids or ()), topic, reason, group, moment(since, now), moment(until, now))


def _resolve(
    action: "Action", wanted: DeadLetterFilter, limit: int, because: str, dry_run: bool, yes: bool, as_json: bool
) -> None:
    from services.cli.kafka import run
    from services.cli.resolve import Resolution

    if wanted.anything:
        raise Usage("which", "say which: ids, --topic, --reason, --group, --since or --until")
    if not (dry_run or yes or as_json) and (count := run(_count(wanted))):
        typer.confirm(f"{min(count, limit)} dead letters are {action}; go on?", abort=True)
    resolution = None if dry_run else Resolution(action, login_name(), because)
    rows = run(_resolve_all(wanted, limit, resolution, f"would be {action}"))
    columns = {name: COLUMNS[name] for name in ("id", "reason", "topic", "partition", "offset")}
    shown = columns | {"outcome": lambda r: r["outcome"]}
    show({"items": rows, "dry_run": dry_run}, as_json, lambda: table(rows, shown, "no dead letters that are open"))
    failed = [row for row in rows if str(row["outcome"]).startswith("failed")]
    if failed:
        raise typer.Exit(1)


async def _count(wanted: DeadLetterFilter) -> int:
    from services.cli.dead_letter_reader import reading

    async with reading() as (_, index):
        return index.count(replace(wanted, ids=index.resolve(wanted.ids)), open_only=True)


async def _resolve_all(
    wanted: DeadLetterFilter, limit: int, resolution: "Resolution | None", would: str
) -> list[dict[str, Any]]:
    """What came of each open letter that is meant, newest first, at most `limit`; without a resolution, what would."""
    from services.cli.dead_letter_reader import reading
    from services.cli.resolve import make_audit_topic

    rows: list[dict[str, Any]] = []
    if resolution is not None:
        await make_audit_topic()
    async with reading() as (reader, index):
        meant, after = replace(wanted, ids=index.resolve(wanted.ids)), None
        while True:
            found, after = index.page(meant, min(PAGE, limit - len(rows)), after, open_only=True)
            for each in found:
                rows.append(
                    {
                        **_brief(each),
                        "outcome": await _resolve_one(reader, index, each, resolution) if resolution else would,
                    }
                )
            if after is None or len(rows) >= limit:
                return rows


async def _resolve_one(
    reader: "AIOKafkaConsumer", index: "DeadLetterIndex", dead_letter: Mapping[str, Any], resolution: "Resolution"
) -> str:
    """What came of a letter; 'failed: why' where it cannot be settled, and the others go on."""
    from services.cli.resolve import resolve

    try:
        return await resolve(reader, index, dead_letter, resolution)
    except Unreachable:
        raise
    except ConsoleError as error:
        return f"failed: {error.message}"


def _brief(dead_letter: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dead_letter[name] for name in ("id", "reason", "topic", "partition", "offset", "group", "time")}


def _fate(fate: Mapping[str, Any] | None) -> str:
    return f"{fate['action']} by {fate['by']} {clock(fate['at'])} {fate['reason']}".strip() if fate else "-"
