"""`noria ingest`: a file of records goes to ingestion in batches; what it refuses is told with line and reason.

Holds a batch at a time and the first KEPT answers. Stopped, it goes on where it was when the same command is given again.
"""

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer

from services.cli import api
from services.cli.output import AsJson, note, show
from services.cli.progress import progress

if TYPE_CHECKING:
    from services.cli.ingest_state import Done
    from services.cli.record_files import Batch

SHOWN = 20
"""Refusals that a person is shown."""
KEPT = 10_000
"""Accepted records and refusals that --json lists of each; their counts are of all."""
INTERRUPTED = 130


@dataclass(slots=True)
class Answers:
    """What was answered: counts of all, lists of the first KEPT."""

    done: "Done"
    accepted: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    refused: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def add(self, accepted: list[dict[str, Any]], refused: list[dict[str, Any]], row: int) -> None:
        """A batch's answers, up to `row`."""
        self.accepted += accepted[: KEPT - len(self.accepted)]
        self.refused += refused[: KEPT - len(self.refused)]
        before = self.done
        self.done = type(before)(row, before.accepted + len(accepted), before.refused + len(refused))


def ingest(
    project: Annotated[str, typer.Argument(help="Whose records they are.")],
    file: Annotated[
        str, typer.Argument(help="JSON lines, JSON, CSV, TSV, Parquet, Arrow (.gz, .zst too), a folder, hf://...")
    ],
    refused: Annotated[Path | None, typer.Option(help="Write all refusals here, as JSON lines.")] = None,
    restart: Annotated[bool, typer.Option(help="Begin anew where an earlier run was stopped.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a file of records; stopped, the same command goes on from there. Exit status 1 if none was accepted."""
    from services.cli.addresses import settings
    from services.cli.ingest_state import Done, IngestState
    from services.cli.record_files import batches

    state = IngestState(settings().home, project, file)
    answers = Answers(Done() if restart else state.read())
    if answers.done.row:
        note(f"noria: going on behind row {answers.done.row}; --restart begins anew")
    with ExitStack() as stack:
        advance = stack.enter_context(progress(f"ingesting {Path(file).name}"))
        mode = "a" if answers.done.row else "w"
        out = stack.enter_context(refused.open(mode, encoding="utf-8")) if refused else None
        try:
            for batch in batches(file, answers.done.row):
                take(send(project, batch), batch, answers, out)
                state.write(answers.done)
                advance(batch.share, f"{answers.done.accepted} accepted, {answers.done.refused} refused")
        except KeyboardInterrupt:
            note(f"noria: stopped behind row {answers.done.row}; the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
    state.forget()
    report(project, file, answers, as_json)


def take(answer: dict[str, Any], batch: "Batch", answers: Answers, out: IO[str] | None) -> None:
    """A batch's answer into the answers, its refusals into `out`."""
    refused = [numbered(item, batch) for item in answer["refused"]]
    answers.add([numbered(item, batch) for item in answer["accepted"]], refused, batch.numbers[-1])
    if out:
        out.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in refused)
        out.flush()


def report(project: str, file: str, answers: Answers, as_json: bool) -> None:
    """What came of it."""
    counts = {"accepted_count": answers.done.accepted, "refused_count": answers.done.refused}
    document = {"project": project, "file": file, **counts, "accepted": answers.accepted, "refused": answers.refused}
    show(document, as_json, lambda: summary(answers.done.accepted, answers.done.refused, answers.refused))
    if not answers.done.accepted:
        note("noria: no record was accepted" if answers.done.refused else f"noria: {file} has no rows")
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


def summary(accepted: int, total: int, refused: list[dict[str, Any]]) -> str:
    """What a person reads: how many were accepted, how many in `total` refused, and the first of these."""
    from rich.markup import escape

    lines = [f"{accepted} accepted, {total} refused"]
    lines += [escape(f"line {r['line']}: {r['reason']}: {r.get('detail', '')}") for r in refused[:SHOWN]]
    if total > SHOWN:
        lines.append(f"... and {total - SHOWN} more; --refused FILE writes them all")
    return "\n".join(lines)
