"""Which of the failures that the services list still want a person. Asks nobody."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Rows = Iterable[Mapping[str, Any]]
SUCCESSES = frozenset({"done", "deployed"})
TIMES = ("finished_at", "promoted_at", "changed_at", "created_at")
"""A deployment counts by when it was wanted: one that failed has no other time, or that of an earlier success."""


def unsettled(rows: Rows, kind: str, name: str) -> list[dict[str, Any]]:
    """The newest failure of each project that no later success of the same kind has made good, newest first.

    A rejected candidate is an answer and no failure, and what somebody cancelled or removed was settled by that.
    """
    return list(_newest_failures(sorted(rows, key=_time, reverse=True), kind, name))


def decided(rows: Rows) -> set[Any]:
    """Projects whose newest outcome, a failure or a success, is among `rows`."""
    return {_project(row) for row in rows if row.get("status") == "failed" or row.get("status") in SUCCESSES}


def is_settled(failure: Mapping[str, Any], project: Mapping[str, Any] | None, versions: Rows) -> bool:
    """Whether a person has settled a failure by what the registry says of its project and the project's newest versions.

    Nothing of a project that was taken out of service wants anybody. A failed evaluation wants nobody whose candidate was
    promoted or rejected by hand, or measured again.
    """
    if project is not None and project.get("retired"):
        return True
    if failure["kind"] != "evaluation":
        return False
    of_run = [version for version in versions if version.get("run_id") == failure["run_id"]]
    return any(v.get("stage") != "candidate" or v["evaluation"]["status"] != "failed" for v in of_run)


def _newest_failures(rows: Rows, kind: str, name: str) -> Iterator[dict[str, Any]]:
    settled: set[Any] = set()
    for row in rows:
        project = _project(row)
        if row.get("status") == "failed" and project not in settled:
            yield _failure(row, kind, name)
        settled |= decided([row])


def _failure(row: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    named = row.get(name)
    return {
        "kind": kind,
        "id": f"{named['name']}@{named['version']}" if isinstance(named, Mapping) else named,
        "project": _project(row),
        "run_id": row.get("run_id"),
        "cause": row.get("cause"),
        "detail": row.get("detail"),
        "time": _time(row),
    }


def _project(row: Mapping[str, Any]) -> Any:
    model = row.get("model")
    return row.get("project") or (model["name"] if isinstance(model, Mapping) else model)


def _time(row: Mapping[str, Any]) -> str:
    return next((str(row[name]) for name in TIMES if row.get(name)), "")
