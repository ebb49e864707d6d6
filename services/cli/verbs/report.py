"""`noria report`: what a project's answers cost and how long they took, and what its own versions save against its teacher."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.cli import api
from services.cli.output import AsJson, show, table

Json = Mapping[str, Any]


def report(
    project: Annotated[str, typer.Argument(help="A project's name.")],
    days: Annotated[float, typer.Option("--days", min=0.001, max=3650, help="Answers of so many days.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Tell what a project's answers cost and how long they took, and what its own versions save against its teacher."""
    found = api.get("serving", f"/v1/answers/{quote(project, safe='')}", days=days)
    show(found, as_json, lambda: _shown(found))


def _shown(found: Json) -> Any:
    from rich.console import Group

    columns = {
        "answered by": lambda r: r["by"],
        "answers": lambda r: r["answers"],
        "failed": lambda r: r["failed"],
        "tokens in": lambda r: r["prompt_tokens"],
        "out": lambda r: r["completion_tokens"],
        "cost": lambda r: money(r["cost"], r["currency"]),
        "an answer": lambda r: money(r["cost_per_answer"], r["currency"]),
        "p50 ms": lambda r: r["p50_ms"],
        "p95 ms": lambda r: r["p95_ms"],
        "first token p50": lambda r: r["first_token_p50_ms"],
        "p95": lambda r: r["first_token_p95_ms"],
    }
    none = f"{found['project']} answered nothing in the last {found['days']:g} days"
    return Group(table(found["answered"], columns, none), *lines(found["saved"]))


def lines(saved: Json | None) -> Iterator[str]:
    """What a version of one's own saved, in words."""
    if saved is None:
        return
    if saved["money"] is not None:
        spared = money(saved["money"], saved["currency"])
        yield f"own versions gave {saved['answers']} answers, for which {saved['against']} would have taken {spared}"
    for name, value in (("half", saved["p50_ms"]), ("95%", saved["p95_ms"])):
        if value is not None:
            word = "earlier" if value >= 0 else "later"
            yield f"{name} of the answers of {saved['by']} were there {abs(value):g} ms {word}"
    yield f"quality: {saved['quality']}"


def money(value: float | None, currency: str | None) -> str | None:
    """Four digits that count, since an answer costs a fraction of a cent."""
    return None if value is None else f"{value:.4g} {currency or ''}".strip()
