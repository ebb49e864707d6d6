"""How the whole stack stands: processes, readiness, lag, parked, outbox, dead letters, recent failures. Changes nothing."""

from collections.abc import Callable, Mapping
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from services.cli import alerts, api, freezes
from services.cli.errors import ConsoleError, Refused
from services.cli.failures import decided, is_settled, unsettled
from services.cli.output import brief, clock, note, plain_table, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from compose.local.settings import StackSettings

GAUGES = ("parked_waiting", "outbox_waiting", "outbox_failed")
FAILURES = 5
"""Newest failures shown of each kind."""
LOOKED_AT = 100
"""Newest runs, evaluations and deployments of all projects that are looked at."""
PROJECTS = 10_000
"""Most projects that are asked about one by one."""
LOOKED_AT_EACH = 20
"""Newest ones of a project that those do not tell about."""


def document(settings: "StackSettings") -> dict[str, Any]:
    """{"ready", "processes", "services", "lag", "parked", "outbox", "dead_letters", "groups", "symptoms", "failures"}.

    `groups` counts members by consumer group, None where Kafka does not answer; `symptoms` is what needs a person, by the
    names of docs/runbook.md; `services` is each part's own readiness answer; `lag` counts messages not taken yet by topic.
    """
    from compose.local import stack

    parts = stack.look(settings)
    services = {part.name: part.health for part in parts}
    metrics = {part.name: _scrape(part.name) for part in parts if part.name not in ("kafka", "triton")}
    gauges = {name: None if found is None else _gauges(found) for name, found in metrics.items()}
    letters, groups = dead_letters(), members()
    known = {name: found for name, found in metrics.items() if found is not None}
    return {
        "ready": all(part.ready for part in parts),
        "home": str(settings.home),
        "processes": [_process(part) for part in parts],
        "services": services,
        "lag": _lag(services),
        "parked": {name: found["parked_waiting"] for name, found in gauges.items() if found},
        "outbox": {name: found["outbox_waiting"] for name, found in gauges.items() if found},
        "outbox_failed": {name: found["outbox_failed"] for name, found in gauges.items() if found},
        "dead_letters": letters,
        "groups": groups,
        "symptoms": alerts.find(known, services, groups, letters),
        "failures": failures(),
    }


def failures() -> list[dict[str, Any]]:
    """The failed freezes, runs, evaluations and deployments that nothing later made good and nobody settled, newest first."""
    in_service = cache(_in_service)
    runs = _failed("trainer", "/v1/runs", "run", "run_id", in_service)
    evaluations = _failed("evaluator", "/v1/evaluations", "evaluation", "evaluation_id", in_service)
    deployments = _failed("serving", "/v1/deployments", "deployment", "model", in_service)
    project, versions = cache(_project), cache(_versions)
    found: list[dict[str, Any]] = []
    for each in (_freezes(), runs, evaluations, deployments):
        open_ = (f for f in each if not is_settled(f, project(f["project"]), versions(f["project"])))
        found += islice(open_, FAILURES)
    return sorted(found, key=lambda f: str(f["time"]), reverse=True)


def _freezes() -> list[dict[str, Any]]:
    """The failed freezes in the form of the other failures; none where prep cannot tell."""
    try:
        rows = freezes.failed()
    except ConsoleError:
        return []
    found = [
        {
            "kind": "freeze",
            "id": row.get("job"),
            "project": row["project"],
            "run_id": None,
            "cause": row.get("code"),
            "detail": row.get("detail"),
            "time": row.get("asked_at") or "",
        }
        for row in rows
    ]
    return sorted(found, key=lambda f: str(f["time"]), reverse=True)


def _project(name: str) -> dict[str, Any] | None:
    """The project as the registry shows it; None where it cannot tell."""
    try:
        return api.get("registry", f"/v1/projects/{quote(name, safe='')}")
    except ConsoleError:
        return None


def _versions(project: str) -> list[dict[str, Any]]:
    """The project's newest versions as the registry shows them; none where it cannot tell."""
    try:
        return api.items("registry", "/v1/models", LOOKED_AT, project=project)["items"]
    except ConsoleError:
        return []


def _in_service() -> set[str]:
    """Projects that the registry has in service; none where it cannot tell."""
    try:
        found = api.items("registry", "/v1/projects", PROJECTS)["items"]
    except ConsoleError:
        return set()
    return {project["project"] for project in found if not project.get("retired")}


def _failed(service: str, path: str, kind: str, name: str, in_service: Callable[[], set[str]]) -> list[dict[str, Any]]:
    try:
        rows = api.items(service, path, LOOKED_AT)["items"]
        if len(rows) == LOOKED_AT:  # there may be more, of projects that others left behind
            for project in sorted(in_service() - decided(rows)):
                rows += api.items(service, path, LOOKED_AT_EACH, project=project)["items"]
    except Refused as error:
        note(f"noria: {kind}s that failed are not shown: {error.message}")
        return []
    except ConsoleError:
        return []  # that it does not answer stands among the processes
    return unsettled(rows, kind, name)


def _process(part: Any) -> dict[str, Any]:
    held = part.process
    if held is None:
        return {"name": part.name, "state": "STOPPED", "pid": None, "uptime": 0.0, "ready": False}
    return {
        "name": part.name,
        "state": held.state,
        "pid": held.pid or None,
        "uptime": round(held.uptime, 1),
        "ready": part.ready,
    }


def _lag(services: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Messages not taken yet, by service and topic."""
    return {name: dict(health["lag"]) for name, health in services.items() if health.get("lag")}


def _scrape(service: str) -> alerts.Samples | None:
    """The service's metrics, or None where it does not answer."""
    try:
        with api.client(service, timeout=10) as http:
            return alerts.read(http.get("/metrics").text, service)
    except ConsoleError:
        return None


def _gauges(found: alerts.Samples) -> dict[str, int]:
    """The gauges without labels that have columns of their own; 0 where one is not there."""
    return {name: round(found.get(name, {}).get("", 0)) for name in GAUGES}


def members() -> dict[str, int] | None:
    """Members by consumer group of the catalogue, or None where Kafka does not answer."""
    from services.cli import groups
    from services.cli.kafka import run

    try:
        return run(groups.members(groups.of_catalogue()))
    except ConsoleError:
        return None


def dead_letters() -> int | None:
    """How many there are that nobody settled, or None where Kafka does not answer."""
    from services.cli.dead_letter_reader import open_dead_letters
    from services.cli.kafka import run

    try:
        return run(open_dead_letters())[0]
    except ConsoleError:
        return None


def render(found: Mapping[str, Any]) -> "RenderableType":
    """The document as a person reads it."""
    from rich.console import Group
    from rich.markup import escape

    grid = plain_table(("part", "state", "ready", "pid", "uptime", "lag", "parked", "outbox", "what is wrong"))
    for process in found["processes"]:
        name = process["name"]
        counts = (sum(found["lag"].get(name, {}).values()), found["parked"].get(name), found["outbox"].get(name))
        shown = ["-" if n is None else str(n) for n in counts]
        ready = "[green]yes[/]" if process["ready"] else "[red]no[/]"
        pid, uptime = str(process["pid"] or "-"), f"{process['uptime']:.0f} s"
        grid.add_row(name, process["state"], ready, pid, uptime, *shown, escape(_wrong(found["services"][name])))
    letters = "unknown, Kafka does not answer" if found["dead_letters"] is None else found["dead_letters"]
    parts: list[RenderableType] = [grid, f"open dead letters: {letters}" + (" (noria dlq list)" if letters else "")]
    if found["symptoms"]:
        parts += ["needs you (docs/runbook.md):", table(found["symptoms"], alerts.COLUMNS, "")]
    if found["failures"]:
        parts += ["recent failures:", _failures_table(found["failures"])]
    return Group(*parts, "[green]ready[/]" if found["ready"] else "[red]not ready[/]")


def _failures_table(rows: list[dict[str, Any]]) -> "RenderableType":
    columns = {
        "kind": lambda r: r["kind"],
        "id": lambda r: r["id"],
        "cause": lambda r: r["cause"],
        "detail": lambda r: brief(r["detail"]),
        "time": lambda r: clock(r["time"]),
    }
    return table(rows, columns, "")


def _wrong(health: Mapping[str, Any]) -> str:
    checks: Mapping[str, Any] = health.get("checks") or {}
    failed = [f"{name}: {check['detail']}" for name, check in checks.items() if not check.get("ok", True)]
    return "; ".join(failed) or str(health.get("detail") or "")
