"""`noria replay`: rebuilds a service's state from the log beside the live one and says what differs. Changes nothing."""

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.console.errors import ConsoleError, Usage
from services.console.output import AsJson, brief, note, show, table

if TYPE_CHECKING:
    from rich.console import RenderableType


def replay(
    service: Annotated[str, typer.Argument(help="The service whose state is rebuilt.")],
    as_json: AsJson = False,
) -> None:
    """Rebuild a service's state from the log and compare it with the live one. Exit status 0 only if they are equal."""
    from services.console.stack.settings import SERVICES

    if service not in SERVICES:
        raise Usage("unknown_service", f"{service!r} is no service; give one of: {', '.join(SERVICES)}")
    if not as_json:
        note(f"rebuilding {service} from its topics' beginning ...")
    found = _compared(service)
    show(found, as_json, lambda: _shown(found))
    if found["differences"]:
        raise typer.Exit(1)


def _compared(service: str) -> dict[str, Any]:
    """What services.chassis.replay says, from a process of its own: the console knows no service."""
    from services.console.addresses import kafka_bootstrap, settings
    from services.console.stack import local

    command = [sys.executable, "-m", "services.chassis.replay", service]
    environment = {**local.environment(settings()), "NORIA_KAFKA_BOOTSTRAP": kafka_bootstrap()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ConsoleError("replay_failed", f"{service} could not be rebuilt: {said[0]}")
    return json.loads(done.stdout)


def _shown(found: dict[str, Any]) -> "RenderableType":
    messages, parked = found["messages"], found["parked"]
    if not found["differences"]:
        return f"equal: {messages} messages make the state that {found['service']} has"
    columns = {
        "table": lambda r: r["table"],
        "key": lambda r: r["key"],
        "column": lambda r: r["column"] or "(whole row)",
        "live": lambda r: _cell(r["live"]),
        "rebuilt": lambda r: _cell(r["rebuilt"]),
    }
    waits = f"parked: {parked['live']} live, {parked['rebuilt']} rebuilt; outbox: {found['outbox']} not published yet"
    note(f"{len(found['differences'])} differences after {messages} messages ({waits})")
    return table(found["differences"], columns, "")


def _cell(value: Any) -> str | None:
    return (
        brief(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) if value is not None else None
    )
