"""`noria groups`: who reads a topic, as Kafka knows it."""

from typing import Annotated

import typer

from services.cli.output import AsJson, show, table


def groups(topic: Annotated[str, typer.Argument(help="A topic's name.")], as_json: AsJson = False) -> None:
    """Show the consumer groups of a topic: members, how many of them subscribe to it now, and their lag."""
    from services.cli.groups import of_topic
    from services.cli.kafka import run

    found = run(of_topic(topic))
    columns = {name: lambda row, name=name: row[name] for name in ("group", "state", "members", "reads", "lag")}
    show({"items": found, "next": None}, as_json, lambda: table(found, columns, f"no group reads {topic}"))
