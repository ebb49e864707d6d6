"""`noria datasets`, `runs` and `models`: what prep, the trainer and the registry list."""

from contextlib import suppress
from typing import Any
from urllib.parse import quote

from services.cli import api, freezes
from services.cli.addresses import settings
from services.cli.errors import Refused
from services.cli.output import AsJson, Limit, Project, brief, clock, metric, note, show, table


def datasets(project: str | None, tag: str | None, limit: int, as_json: bool) -> None:
    """Shows frozen datasets, newest first."""
    found = api.items("prep", "/v1/datasets", limit, project=project, tag=tag)
    columns = {
        "dataset": lambda r: f"{r['project']} #{r['number']}",
        "version": lambda r: str(r["version"])[:12],
        "rows": lambda r: r.get("counts"),
        "dropped": lambda r: r.get("drops"),
        "not learnt": lambda r: r.get("unusable"),
        "cause": lambda r: r.get("cause"),
        "frozen": lambda r: clock(r.get("frozen_at")),
        "tags": lambda r: ", ".join(r.get("tags", ())) or None,
        "note": lambda r: brief(r["note"]) if r.get("note") else None,
    }
    asking = "" if project else "; with --project NAME it is told what that one's records wait for"
    none = f"no dataset has the tag {tag}" if tag else f"no dataset is frozen yet{asking}"
    show(found, as_json, lambda: table(found["items"], columns, none))
    if as_json:
        return
    if project:
        with suppress(Refused):  # nobody defined it
            note("\n".join(waiting(api.get("prep", f"/v1/projects/{quote(project, safe='')}/pending"))))
    else:
        for one in freezes.failed():
            note(f"{one['project']}: {last_failed(one)}")
    if found["items"]:
        newest = found["items"][0]
        note(
            f"{settings().url('prep')}/v1/datasets/{newest['project']}/{newest['number']}/report shows the newest's profile"
        )


def waiting(pending: dict[str, Any]) -> list[str]:
    """What a project's records wait for, and why its last freeze failed where it did."""
    failure = pending.get("failure")
    told = (
        f"{pending['changed']} of {pending['total']} records are in no dataset yet as they are now; the next is frozen "
    )
    return [told + pending["next_freeze"], *([last_failed(failure)] if failure else [])]


def last_failed(failure: dict[str, Any]) -> str:
    """Why a project's last freeze failed."""
    return f"the last freeze failed: {failure['code']}: {failure['detail']}"


def runs(project: Project = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List training runs, newest first."""
    found = api.items("trainer", "/v1/runs", limit, project=project)
    columns = {
        "run": lambda r: r["run_id"],
        "project": lambda r: r["project"],
        "dataset": lambda r: _dataset(r.get("dataset")),
        "status": lambda r: r["status"],
        "progress": _progress,
        "attempt": lambda r: r.get("attempt"),
        "next try": lambda r: clock(r["retry_at"]) if r.get("retry_at") else None,
        "left out": lambda r: counted(r.get("left_out")),
        "cause": _cause,
        "began": lambda r: clock(r.get("started_at") or r.get("created_at")),
    }
    show(found, as_json, lambda: table(found["items"], columns, "no training run yet"))


def models(project: Project = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List model versions, newest first."""
    found = api.items("registry", "/v1/models", limit, project=project)
    columns = {
        "model": lambda r: f"{r['name']}@{r['version']}",
        "stage": stage,
        "serves": lambda r: "yes" if r.get("serves") else None,
        "detail": lambda r: brief(r["detail"]) if r["stage"] == "candidate" else None,
        "metrics": lambda r: ", ".join(f"{k} {metric(v)}" for k, v in (r.get("metrics") or {}).items()) or None,
        "dataset": lambda r: _dataset(r.get("dataset")),
        "prompt": lambda r: r.get("prompt_version"),
        "weights": lambda r: f"of @{r['weights_of']}" if r.get("weights_of") else None,
        "run": lambda r: r.get("run_id"),
        "registered": lambda r: clock(r.get("created_at")),
    }
    show(found, as_json, lambda: table(found["items"], columns, "no model is registered yet"))


def counted(reasons: Any) -> str | None:
    """Counts by reason as a cell."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) if reasons else None


def stage(row: Any) -> str:
    """What is wanted of a version and, where that is not what is, what serving made of it."""
    deployment = row.get("deployment") or {}
    status = deployment.get("status")
    if row["stage"] != "production" or status == "deployed":
        return row["stage"]
    if status == "failed":
        return f"production, deployment failed: {brief(deployment.get('detail'))}"
    return f"production, deployment {status or 'pending'}"


def _dataset(raw: Any) -> str | None:
    return f"#{raw['number']}" if isinstance(raw, dict) and "number" in raw else None


def _cause(row: Any) -> str | None:
    """Why a run ended without a model, or why it waits for its next try."""
    told = (
        row
        if row.get("cause")
        else {"cause": (row.get("last_error") or {}).get("code"), **(row.get("last_error") or {})}
    )
    return brief(": ".join(str(told[k]) for k in ("cause", "detail") if told.get(k)))


def _progress(row: Any) -> str | None:
    done = row.get("progress") or {}
    if not done.get("total_steps"):
        return None
    loss = f", loss {done['loss']:.3f}" if done.get("loss") is not None else ""
    preferred = done.get("preference") or {}
    told = [f", {name} {preferred[name]:.3g}" for name in ("margin", "accuracy") if name in preferred]
    method = f" {done['method']}" if preferred else ""
    return f"{done.get('step', 0)}/{done['total_steps']}{method}{loss}{''.join(told)}"
