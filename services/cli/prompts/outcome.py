"""The outcome of a search: figures with their intervals, and the prompt. Knows no optimiser."""

from pathlib import Path
from typing import Any

from rich.markup import escape

from contracts.project import ProjectSpec
from services.cli.output import metric
from services.cli.prompts.search import Asked, Found, Measured
from services.cli.prompts.task import with_text
from services.cli.prompts.yaml_text import section
from services.lm.scoring import intervals


def document(
    spec: ProjectSpec, asked: Asked, found: Found, before: Measured, best: Measured, about: dict[str, Any]
) -> dict[str, Any]:
    """The outcome as --json tells it; figures with 95% intervals on the validation rows, paired where they are compared."""
    better = best.mean > before.mean
    prompt = with_text(spec.prompt, best.text) if better else spec.prompt
    first, last = ([100 * score for score in one.scores] for one in (before, best))
    return {
        "project": spec.project,
        **about,
        "model": asked.request["model"],
        "reflect": asked.reflect_request["model"],
        "ended": found.ended,
        "written": found.tried,
        "measured": found.measured,
        "before": _interval(intervals.mean(first)),
        "after": _interval(intervals.mean(last)),
        "difference": _interval(intervals.difference(last, first)),
        "better": better,
        "prompt": prompt.model_dump(mode="json"),
        "refused": found.refused,
    }


def _interval(found: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), found, strict=True))


def told(document: dict[str, Any], out: Path | None) -> str:
    """What a person reads."""
    name = f"{document['metric']} on {document['rows']} validation rows"
    calls = f"{document['calls']} of {document['budget']} calls, {document['written']} instructions written"
    if not document["better"]:
        return f"nothing better was found: {name} {metric(document['before'])}; {calls}"
    difference = document["difference"]
    sure = (
        "" if difference["low"] > 0 else "; so few rows cannot tell it from chance, the gate will on the held-out ones"
    )
    lines = [
        f"{name}: {metric(document['before'])} -> {metric(document['after'])}, difference {metric(difference)}{sure}",
        calls,
        f"written to {out}" if out else escape(section(document["prompt"])),
    ]
    if document.get("applied"):
        lines.append(f"{document['project']} is defined with it, revision {document['applied']['revision'][:12]}")
    return "\n".join(lines)
