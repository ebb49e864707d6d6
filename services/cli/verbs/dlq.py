"""`noria dlq`: messages that no service could take, with the reason; sends them again or gives them up."""

import base64
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.dead_letters import Wanted, check_id, chosen, moment, with_fates
from services.cli.errors import ConsoleError, Unreachable, Usage
from services.cli.output import AsJson, Cell, Limit, clock, show, table

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from services.cli.resolve import Action, Resolution

app = typer.Typer(help="Messages that could not be taken.", no_args_is_help=True)
NOTE = "noria-"
"""Prefix of the headers that say why and whence."""
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
    as_json: AsJson = False,
) -> None:
    """List dead letters that nobody settled, newest first: reason, topic, partition and offset."""
    wanted = _wanted(None, topic, reason, group, since, until)
    found = [x for x in reversed(_settled(wanted)) if everything or x["settled"] is None]
    shown = [{k: v for k, v in letter.items() if k not in ("headers", "value")} for letter in found[:limit]]
    columns = COLUMNS | ({"settled": lambda r: _fate(r["settled"])} if everything else {})
    document = {"items": shown, "next": None, "total": len(found)}
    show(document, as_json, lambda: table(shown, columns, "no dead letters"))


@app.command("show")
def show_letter(
    id: Annotated[str, typer.Argument(help="A dead letter's id or its beginning, as `noria dlq list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show a dead letter as it came, its headers and its value, and what became of it."""
    from rich.markup import escape

    check_id(id)
    (letter,) = _settled(Wanted(ids=(id,)))
    show(letter, as_json, lambda: escape("\n".join(_lines(letter))))


@app.command("redrive")
def redrive(
    ids: Ids = None,
    topic: Topic = None,
    reason: Reason = None,
    group: Group = None,
    since: Since = None,
    until: Until = None,
    because: Why = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters' messages to their topic again, each letter once. The letters stay where they are."""
    _settle("redriven", _wanted(ids, topic, reason, group, since, until), because, dry_run, yes, as_json)


@app.command("discard")
def discard(
    ids: Ids = None,
    topic: Topic = None,
    reason: Reason = None,
    group: Group = None,
    since: Since = None,
    until: Until = None,
    because: Why = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give dead letters up: they are listed no more, and cannot be redriven. The letters stay where they are."""
    _settle("discarded", _wanted(ids, topic, reason, group, since, until), because, dry_run, yes, as_json)


def _wanted(
    ids: list[str] | None,
    topic: str | None,
    reason: str | None,
    group: str | None,
    since: str | None,
    until: str | None,
) -> Wanted:
    now = datetime.now(UTC)
    return Wanted(tuple(ids or ()), topic, reason, group, moment(since, now), moment(until, now))


def _settled(wanted: Wanted) -> list[dict[str, Any]]:
    """The letters that are meant, oldest first, with what became of them."""
    from services.cli.kafka import run
    from services.cli.resolve import fates

    found = chosen([letter(message) for message in run(messages())], wanted)
    return with_fates(found, run(fates()))


def _settle(action: "Action", wanted: Wanted, because: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    from services.cli.kafka import run
    from services.cli.resolve import Resolution, me

    if wanted.anything:
        raise Usage("which", "say which: ids, --topic, --reason, --group, --since or --until")
    open_letters = [x for x in _settled(wanted) if x["settled"] is None]
    if not (dry_run or yes or as_json) and open_letters:
        typer.confirm(f"{len(open_letters)} dead letters are {action}; go on?", abort=True)
    deed = Resolution(action, me(), because)
    outcomes = {} if dry_run else run(settle_all([x["id"] for x in open_letters], deed))
    would = f"would be {action}"
    rows = [{**_brief(x), "outcome": outcomes.get(x["id"], would)} for x in open_letters]
    columns = {name: COLUMNS[name] for name in ("id", "reason", "topic", "partition", "offset")}
    shown = columns | {"outcome": lambda r: r["outcome"]}
    show({"items": rows, "dry_run": dry_run}, as_json, lambda: table(rows, shown, "no dead letters that are open"))
    failed = [row for row in rows if str(row["outcome"]).startswith("failed")]
    if failed:
        raise typer.Exit(1)


async def settle_all(ids: Collection[str], deed: "Resolution") -> dict[str, str]:
    """What came of each letter; one that cannot be settled is 'failed: why', and the others go on."""
    from services.cli.resolve import make_audit_topic, settle

    outcomes: dict[str, str] = {}
    await make_audit_topic()
    for message in await messages():
        said = letter(message)
        if said["id"] in ids and said["id"] not in outcomes:
            try:
                outcomes[said["id"]] = await settle(message, said, deed)
            except Unreachable:
                raise
            except ConsoleError as error:
                outcomes[said["id"]] = f"failed: {error.message}"
    return outcomes


def _brief(letter: Mapping[str, Any]) -> dict[str, Any]:
    return {name: letter[name] for name in ("id", "reason", "topic", "partition", "offset", "group", "time")}


def _fate(fate: Mapping[str, Any] | None) -> str:
    return f"{fate['action']} by {fate['by']} {clock(fate['at'])} {fate['reason']}".strip() if fate else "-"


async def messages() -> "list[ConsumerRecord[Any, Any]]":
    """Every message of the catalogue's dead-letter topics, in no order."""
    from contracts.topics import dead_letter_topics
    from services.cli.kafka import consumer, read_all

    async with consumer() as reader:
        return [message async for message in read_all(reader, dead_letter_topics())]


def letter(message: "ConsumerRecord[Any, Any]") -> dict[str, Any]:
    """A message of a dead-letter topic as JSON: what the chassis noted, and the original headers and value."""
    notes = {k[len(NOTE) :]: v.decode("utf-8", "replace") for k, v in message.headers if k.startswith(NOTE) and v}
    original = [{"name": k, "value": _text(v)} for k, v in message.headers if not k.startswith(NOTE)]
    return {
        "id": notes.get("id") or f"{message.topic}/{message.partition}/{message.offset}",
        "reason": notes.get("reason", "unknown"),
        "detail": notes.get("detail", ""),
        "topic": notes.get("topic") or message.topic,
        "partition": _number(notes.get("partition")),
        "offset": _number(notes.get("offset")),
        "group": notes.get("group"),
        "time": notes.get("time", ""),
        "bytes": len(message.value or b""),
        "key": _text(message.key),
        "headers": original,
        "value": _text(message.value),
    }


def _text(raw: bytes | None) -> Any:
    """Bytes as JSON: text where they are UTF-8, else {"base64": ...}."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _number(raw: str | None) -> int:
    return int(raw) if raw is not None and raw.isdecimal() else -1


def _lines(letter: Mapping[str, Any]) -> list[str]:
    facts = [f"{name}: {value}" for name, value in letter.items() if name not in ("headers", "value")]
    headers = [f"  {header['name']}: {header['value']}" for header in letter["headers"]]
    return [*facts, "headers:", *headers, "value:", str(letter["value"])]
