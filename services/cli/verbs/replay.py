"""`noria replay`: rebuilds a service's state from the log beside the live one, or lets a group's messages come again."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.addresses import chassis_settings
from services.cli.errors import ConsoleError, Usage
from services.cli.output import AsJson, brief, note, show, table

if TYPE_CHECKING:
    from rich.console import RenderableType


def replay(
    service: Annotated[str | None, typer.Argument(help="The service whose state is rebuilt.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Move a group to this offset, RFC 3339 time, or how long ago (2h).")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="With --from: the topic to read again.")] = None,
    group: Annotated[str | None, typer.Option(help="With --from: the consumer group, as prep.main.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --from: say what would come again.")] = False,
    twice: Annotated[
        bool, typer.Option("--twice", help="With --from: also what is older than the inbox; it may take effect again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild a service's state from the log and compare it with the live one; or, with --from, let messages come again.

    Exit status 0 only if the states are equal, or the group was moved.
    """
    if start is not None:
        _rewind(start, topic, group, service, dry_run=dry_run, twice=twice, as_json=as_json)
        return
    from compose.local.settings import SERVICES

    if topic or group or dry_run:
        raise Usage("no_from", "--topic, --group and --dry-run belong to --from OFFSET|TIME")
    if service not in SERVICES:
        raise Usage("unknown_service", f"{service!r} is no service; give one of: {', '.join(SERVICES)}")
    if not as_json:
        note(f"rebuilding {service} from its topics' beginning ...")
    found = _compared(service)
    show(found, as_json, lambda: _shown(found))
    if found["differences"]:
        raise typer.Exit(1)


def _rewind(
    start: str, topic: str | None, group: str | None, service: str | None, *, dry_run: bool, twice: bool, as_json: bool
) -> None:
    from services.cli import reset_offsets
    from services.cli.groups import members
    from services.cli.kafka import run

    if service is not None or not topic or not group:
        raise Usage("bad_replay", "--from takes --topic and --group, and no service")
    days = chassis_settings(group.split(".")[0]).inbox_days
    rows = run(reset_offsets.plan(group, topic, _place(start), datetime.now(UTC) - timedelta(days=days)))
    if (forgotten := sum(row["forgotten"] for row in rows)) and not (dry_run or twice):
        why = f"{forgotten} messages are older than the {days:g} days that {group} remembers and may take effect again"
        raise ConsoleError("forgotten", f"{why}; give a later --from, or --twice if that is what you want")
    if not dry_run:
        if run(members([group])).get(group):
            raise reset_offsets.busy(group)
        run(reset_offsets.move(group, rows))
    if forward := sum(-row["again"] for row in rows if row["again"] < 0):
        note(f"{forward} messages {'would be' if dry_run else 'are'} left out: {group} had not taken them yet")
    columns = {
        name: lambda row, name=name: row[name]
        for name in ("topic", "partition", "committed", "to", "again", "forgotten")
    }
    show({"moved": not dry_run, "group": group, "items": rows}, as_json, lambda: table(rows, columns, ""))


def _place(start: str) -> "int | datetime":
    from services.cli.dead_letters import moment

    found = int(start) if start.isdecimal() else moment(start, datetime.now(UTC))
    if found is None:
        raise Usage("bad_from", "--from takes an offset or a time")
    return found


def _compared(service: str) -> dict[str, Any]:
    """What services.chassis.replay.rebuild says, from a process of its own: the console knows no service."""
    from compose.local import stack
    from services.cli.addresses import kafka_bootstrap, settings

    command = [sys.executable, "-m", "services.chassis.replay.rebuild", service]
    environment = {**stack.environment(settings()), "NORIA_KAFKA_BOOTSTRAP": kafka_bootstrap()}
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
    if found["moving"]:
        note(
            f"{found['service']} took or published more at each look, so they may be none; compare while less comes in"
        )
    return table(found["differences"], columns, "")


def _cell(value: Any) -> str | None:
    return (
        brief(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) if value is not None else None
    )
