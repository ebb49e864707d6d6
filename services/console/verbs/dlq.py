"""`noria dlq`: messages that no service could read, with the reason and where they stood."""

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.console.errors import ConsoleError, Usage
from services.console.output import AsJson, Limit, clock, show, table

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

app = typer.Typer(help="Messages that could not be read.", no_args_is_help=True)
NOTE = "noria-"
"""Prefix of the headers that say why and whence."""


@app.command("list")
def list_letters(limit: Limit = 1000, as_json: AsJson = False) -> None:
    """List dead letters, newest first: reason, topic, partition and offset."""
    from services.console.kafka import run

    found = sorted(run(letters()), key=lambda letter: (letter["time"], letter["id"]), reverse=True)
    shown = [{k: v for k, v in letter.items() if k not in ("headers", "value")} for letter in found[:limit]]
    columns = {
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
    document = {"items": shown, "next": None, "total": len(found)}
    show(document, as_json, lambda: table(shown, columns, "no dead letters"))


@app.command("show")
def show_letter(
    id: Annotated[str, typer.Argument(help="A dead letter's id or its beginning, as `noria dlq list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show a dead letter as it came: its headers and its value."""
    from rich.markup import escape

    from services.console.kafka import run

    if len(id) < 4:
        raise Usage("bad_id", f"{id!r} is too short; give at least 4 characters of the id")
    found = {letter["id"]: letter for letter in run(letters()) if letter["id"].startswith(id)}
    if len(found) != 1:
        many = f"{len(found)} dead letters begin with {id!r}; give more of the id"
        raise ConsoleError("unknown_letter", many if found else f"there is no dead letter {id!r}; see `noria dlq list`")
    letter = next(iter(found.values()))
    show(letter, as_json, lambda: escape("\n".join(_lines(letter))))


async def letters() -> list[dict[str, Any]]:
    """Every dead letter of the catalogue's topics, in no order."""
    from contracts.topics import dead_letter_topics
    from services.console.kafka import consumer, read_all

    async with consumer() as reader:
        return [letter(message) async for message in read_all(reader, dead_letter_topics())]


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
