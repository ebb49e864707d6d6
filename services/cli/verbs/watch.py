"""`noria watch`: events as they come, read from Kafka beside all consumers."""

import json
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from services.cli.errors import Usage
from services.cli.output import AsJson, drop_stdout, note

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

LONG = 160
"""Characters of an event's data that a person is shown; --json has all."""


def watch(
    topic: Annotated[str | None, typer.Argument(help="A topic or the beginning of several, as 'trainer'.")] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Also what came before.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    as_json: AsJson = False,
) -> None:
    """Follow events live until Ctrl-C. With --json one JSON document a line."""
    from services.cli.kafka import run

    topics = matching(topic)
    if not as_json:
        note(f"watching {topic or 'every topic'}; Ctrl-C ends it")
    signal.signal(signal.SIGINT, _interrupt)
    try:
        run(_follow(topics, from_beginning, count, as_json))
    except KeyboardInterrupt:
        drop_stdout()


def _interrupt(number: int, frame: object) -> NoReturn:
    """Interrupts at once; asyncio's own handler waits until a blocked write has come through."""
    raise KeyboardInterrupt


def matching(topic: str | None) -> list[str]:
    """The catalogue's topics that `topic` names or begins.

    Raises:
        Usage: it begins none.
    """
    from contracts.topics import BY_NAME, dead_letter_topics

    if topic in dead_letter_topics():
        return [topic]
    found = [name for name in BY_NAME if topic is None or name.startswith(topic)]
    if not found:
        raise Usage("unknown_topic", f"no topic begins with {topic!r}; there are: {', '.join(BY_NAME)}")
    return found


async def _follow(topics: list[str], from_beginning: bool, count: int | None, as_json: bool) -> None:
    from services.cli.kafka import consumer, follow

    seen = 0
    async with consumer() as reader:
        async for message in follow(reader, topics, from_beginning=from_beginning):
            event = document(message)
            print(json.dumps(event, ensure_ascii=False) if as_json else line(event), flush=True)
            seen += 1
            if seen == count:
                return


def document(message: "ConsumerRecord[Any, Any]") -> dict[str, Any]:
    """A message as JSON; `data` is its value as text where it is no JSON."""
    attributes = {k[3:]: (v or b"").decode("utf-8", "replace") for k, v in message.headers if k.startswith("ce_")}
    return {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "time": attributes.get("time") or datetime.fromtimestamp(message.timestamp / 1000, UTC).isoformat(),
        "key": (message.key or b"").decode("utf-8", "replace"),
        "source": attributes.get("source"),
        "id": attributes.get("id"),
        "data": _data(message.value),
    }


def line(event: dict[str, Any]) -> str:
    """An event on one line, as a person reads it."""
    data = json.dumps(event["data"], ensure_ascii=False)
    short = data if len(data) <= LONG else f"{data[:LONG]}..."
    return f"{event['time'][11:19]} {event['topic']} [{event['key']}] {short}"


def _data(value: bytes | None) -> Any:
    try:
        return json.loads(value or b"null")
    except (ValueError, RecursionError):
        return (value or b"").decode("utf-8", "replace")
