"""`noria gc`: says which artifacts nobody names any more, and with --yes deletes them."""

import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import api
from services.cli.errors import ConsoleError, Usage
from services.cli.output import AsJson, note, show

if TYPE_CHECKING:
    from rich.console import RenderableType

RETRY_SECONDS = 600.0
"""After so long a timer tries again that could not ask everybody: services that start, say."""
_EVERY = re.compile(r"(\d+)(h|d)")
ROWS = {
    "named": "named by a row of a service or an event that Kafka holds",
    "young": "put within the grace period",
    "garbage": "named by nobody",
    "removed": "deleted",
    "left_aside": "half-written files that a killed process left",
}


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    every: Annotated[
        str | None, typer.Option("--every", help="Do so again and again, as 7d or 12h; needs --yes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Collect artifacts that no event in Kafka and no row of a service names, and that are older than the grace period.

    Every service and Kafka must answer, for who does not answer may name something.
    """
    pause = _pause(every)
    if pause is None:
        show(found := collect(remove=yes), as_json, lambda: _shown(found))
        return
    if not yes:
        raise Usage("dry_run", "--every deletes again and again; say so with --yes")
    os.environ.setdefault(api.API_KEY, os.environ.get("NORIA_GC_API_KEY", ""))  # the stack hands on no person's key
    while True:
        time.sleep(collect_when_due(pause, as_json=as_json))


def collect_when_due(every: float, *, as_json: bool) -> float:
    """Collects where the last collection, whoever ran it, is `every` seconds old; seconds until the next look.

    The store holds word of it, so that a timer that is started again neither collects anew nor waits anew.
    """
    from services.chassis.errors import ArtifactError
    from services.chassis.retention.sweep import last_record
    from services.chassis.storage.artifacts import open_store
    from services.cli.addresses import chassis_settings

    try:
        last = last_record(open_store(chassis_settings("console")))
        since = (datetime.now(UTC) - datetime.fromisoformat(last["at"])).total_seconds() if last else every
        if since < every:
            return every - since
        found = collect(remove=True)
    except (ConsoleError, ArtifactError, OSError) as error:
        pause = min(every, RETRY_SECONDS)
        note(f"noria gc: {getattr(error, 'message', error)}; nothing was deleted, the next try is in {pause:.0f} s")
        return pause
    show(found, as_json, lambda: _shown(found))
    return every


def collect(*, remove: bool) -> dict[str, Any]:
    """One collection: {"at", "removes", "seconds", "grace_days", totals by kind, "largest"}.

    Raises:
        ConsoleError: a service, Kafka or the store does not answer.
    """
    from services.chassis.errors import ArtifactError
    from services.chassis.retention.sweep import record, sweep
    from services.chassis.storage.artifacts import open_store
    from services.cli.addresses import chassis_settings
    from services.cli.collection import named

    settings, begun, at = chassis_settings("console"), time.monotonic(), datetime.now(UTC)
    store = open_store(settings)
    before = at - timedelta(days=settings.artifact_grace_days)
    try:
        done = sweep(store, named(), before, remove=remove)
        document = {
            "at": at.isoformat(),
            "removes": remove,
            "grace_days": settings.artifact_grace_days,
            **done.document(),
        }
        document["seconds"] = round(time.monotonic() - begun, 1)
        if remove:
            record(store, document)
    except (ArtifactError, OSError) as error:
        raise ConsoleError("store_unreadable", f"the store {store.root} cannot be collected: {error}") from error
    return document


def _pause(every: str | None) -> float | None:
    if every is None:
        return None
    found = _EVERY.fullmatch(every)
    if found is None or int(found[1]) == 0:
        raise Usage("bad_time", f"{every!r} is no time between two collections; give hours or days, as 12h or 7d")
    return int(found[1]) * {"h": 3600.0, "d": 86400.0}[found[2]]


def _shown(found: Mapping[str, Any]) -> "RenderableType":
    from rich.console import Group

    from services.cli.output import table

    kinds = [{"what": what, **found[name]} for name, what in ROWS.items()]
    columns = {name: lambda row, name=name: row[name] for name in ("what", "objects", "bytes")}
    largest = {name: lambda row, name=name: row[name] for name in ("sha256", "bytes", "at")}
    parts: list[RenderableType] = [table(kinds, columns, "")]
    if found["largest"]:
        parts += ["largest that nobody names:", table(found["largest"], largest, "")]
    if not found["removes"] and found["garbage"]["objects"] + found["left_aside"]["objects"]:
        parts.append("nothing was deleted; `noria gc --yes` does it")
    return Group(*parts)
