"""`noria ingest`: a file of records goes to ingestion in batches; what it refuses is told with line and reason."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from services.cli import api
from services.cli.output import AsJson, note, show

if TYPE_CHECKING:
    from services.cli.record_files import Batch

SHOWN = 20
"""Refusals that a person is shown; --json has them all."""


def ingest(
    project: Annotated[str, typer.Argument(help="Whose records they are.")],
    file: Annotated[Path, typer.Argument(help="Records: .jsonl, .json (an array) or .parquet.")],
    as_json: AsJson = False,
) -> None:
    """Submit a file of records. Exit status 1 if none was accepted."""
    from services.cli.record_files import batches

    accepted: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    with progress(f"ingesting {file.name}") as advance:
        for batch in batches(file):
            answer = send(project, batch)
            accepted += [numbered(item, batch) for item in answer["accepted"]]
            refused += [numbered(item, batch) for item in answer["refused"]]
            advance(batch.share, f"{len(accepted)} accepted, {len(refused)} refused")
    document = {"project": project, "file": str(file), "accepted": accepted, "refused": refused}
    show(document, as_json, lambda: summary(len(accepted), refused))
    if not accepted:
        note("noria: no record was accepted")
        raise typer.Exit(1)


def send(project: str, batch: "Batch") -> dict[str, Any]:
    """Ingestion's answer to a batch: {"accepted", "refused"}, also where it refused all of them.

    Raises:
        Refused: the batch as a whole was not looked at, e.g. for an unknown project.
    """
    with api.client("ingestion", timeout=120) as http:
        path = f"/v1/projects/{project}/records"
        answer = http.post(path, content=batch.body, headers={"content-type": "application/x-ndjson"})
        if answer.status_code == 413 and len(batch.numbers) == 1:
            detail = f"the record has {len(batch.body)} bytes, more than ingestion takes"
            return {"accepted": [], "refused": [{"line": 1, "reason": "too_large", "detail": detail}]}
        whole = outcome(answer.json()) if answer.status_code == 422 else None
        return whole if whole is not None else api.checked("ingestion", answer)


def outcome(body: Any) -> dict[str, Any] | None:
    """The lists of a 422 answer, which stand at its top or in its error's detail; None where it has none."""
    places: list[Any] = [body, cast(Any, body).get("error", {}).get("detail")] if isinstance(body, dict) else []
    return next((p for p in places if isinstance(p, dict) and "refused" in p), None)


def numbered(item: dict[str, Any], batch: "Batch") -> dict[str, Any]:
    """The item with its line in the file in place of that in the batch."""
    return item | {"line": batch.numbers[item["line"] - 1]}


def summary(accepted: int, refused: list[dict[str, Any]]) -> str:
    """What a person reads."""
    from rich.markup import escape

    lines = [f"{accepted} accepted, {len(refused)} refused"]
    lines += [escape(f"line {r['line']}: {r['reason']}: {r.get('detail', '')}") for r in refused[:SHOWN]]
    if len(refused) > SHOWN:
        lines.append(f"... and {len(refused) - SHOWN} more; --json has them all")
    return "\n".join(lines)


@contextmanager
def progress(title: str) -> Generator[Callable[[float, str], None]]:
    """A bar on stderr while somebody looks at it; the function takes the share done and a text."""
    if not sys.stderr.isatty():
        yield lambda share, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=f"{title}: {text}")
