"""`noria datasets`: lists frozen datasets, freezes one, shows what is in one, compares two, exports one, tags one."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from services.cli import api
from services.cli.dataset_name import parse
from services.cli.errors import Usage
from services.cli.login import login_name
from services.cli.output import AsJson, Cell, Limit, Project, brief, note, show, table
from services.cli.verbs import lists

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    help="List frozen datasets, newest first; freeze one, look into one, compare two, export one, tag one."
)

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="PROJECT@NUMBER, as shell-copilot@1.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        help="FIELD OP VALUE, as 'tags.tool = tar' or 'record ~ git push' (contains); may be given again, all must hold."
    ),
]
Shown = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")]


@app.callback(invoke_without_command=True)
def list_datasets(
    context: typer.Context,
    project: Project = None,
    tag: Annotated[str | None, typer.Option(help="Those with this tag alone.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List frozen datasets, newest first; freeze one, look into one, compare two, export one, tag one."""
    if context.invoked_subcommand is None:
        lists.datasets(project, tag, limit, as_json)


@app.command("freeze")
def freeze(
    project: Annotated[str, typer.Argument(help="Whose records.")],
    as_json: AsJson = False,
) -> None:
    """Freeze a project's records into a dataset now, whatever its policy waits for. Nothing new: nothing is frozen."""
    answer: dict[str, Any] = api.post("prep", f"/v1/projects/{quote(project, safe='')}/freeze")
    if answer.get("unchanged"):
        said = f"nothing changed since dataset #{answer['dataset']['number']} of {project}"
    else:
        look = f"`noria datasets --project {project}` shows the dataset once it is there, or why there is none"
        said = f"{project} is frozen by job {answer['job']}; {look}"
    show(answer, as_json, lambda: said)


@app.command("show")
def show_rows(
    dataset: Dataset,
    split: Annotated[str | None, typer.Option(help="Rows of train, validation or held_out alone.")] = None,
    where: Where = None,
    drops: Annotated[bool, typer.Option("--drops", help="What was left out, and why, instead of rows.")] = False,
    limit: Shown = 20,
    as_json: AsJson = False,
) -> None:
    """Show rows of a dataset, or what was left out of it.

    Fields of --where: record_id, revision, format, record, digest, prompt_key, subject, tags.NAME; of drops reason, because_of.
    """
    project, number = parse(dataset)
    path = f"/v1/datasets/{project}/{number}"
    if drops:
        found = api.items("prep", f"{path}/drops", limit, where=where or [])
        columns = {
            "record": lambda r: r["record_id"],
            "reason": lambda r: r["reason"],
            "see": lambda r: r["because_of"],
        }
    else:
        found = api.items("prep", f"{path}/rows", limit, where=where or [], split=split)
        columns = {"split": lambda r: r["split"], "record": lambda r: r["record_id"]}
    columns |= {"tags": lambda r: r["tags"], "content": lambda r: content(r["record"])}
    show(found, as_json, lambda: table(found["items"], columns, "no row matches"))
    if found["next"] is not None and not as_json:
        note(f"there are more than {limit}; --limit shows more, --where fewer, --json all of each row")


@app.command("diff")
def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="PROJECT@NUMBER, as shell-copilot@1.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another dataset of the same project.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="Examples of each kind.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show what changed from one dataset to another: rows added, removed, changed, and figures that drifted."""
    (project, since), (same, number) = parse(before), parse(after)
    if project != same:
        raise Usage("two_projects", f"{before} and {after} are of two projects; give two datasets of one")
    found = api.get("prep", f"/v1/datasets/{project}/{number}/changes", since=since, limit=limit)
    show(found, as_json, lambda: changes(found))


def changes(found: Mapping[str, Any]) -> "RenderableType":
    """Rows by what befell them, and the figures that drifted."""
    from rich.console import Group

    kinds = [{"rows": kind, **found[kind]} for kind in ("added", "removed", "changed", "retagged", "moved")]
    columns: dict[str, Cell] = {
        "rows": lambda r: r["rows"],
        "n": lambda r: r["n"],
        "for example": lambda r: ", ".join(one["record_id"] for one in r["examples"]) or None,
    }
    drifted = [figure for figure in found["figures"] if figure["drifted"]]
    figures: dict[str, Cell] = {
        "figure": lambda r: r["figure"],
        "before": lambda r: _value(r, r["before"]),
        "after": lambda r: _value(r, r["after"]),
        "change": lambda r: f"{100 * r['change']:+.1f} {'points' if r['kind'] == 'share' else '%'}",
    }
    rows = table([*kinds, {"rows": "the same", "n": found["same"], "examples": []}], columns, "")
    return Group(rows, table(drifted, figures, "no figure has drifted"))


def _value(figure: Mapping[str, Any], value: float) -> str:
    return f"{100 * value:.1f} %" if figure["kind"] == "share" else f"{value:g}"


@app.command("export")
def export(
    dataset: Dataset,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet, or empty.")],
    force: Annotated[bool, typer.Option("--force", help="Put it in the place of an earlier export.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a dataset as a folder that `datasets.load_dataset` reads: Parquet, card, Croissant metadata, profile."""
    from services.cli.dataset_export import export as write

    project, number = parse(dataset)
    found = write(project, number, folder, force)
    rows = sum(found["counts"].values())
    show(
        {"dataset": dataset, "folder": str(folder), "version": found["version"], "rows": rows},
        as_json,
        lambda: f"{rows} rows of {dataset} lie in {folder}; datasets.load_dataset({str(folder)!r}) reads them",
    )


@app.command("annotate")
def annotate(
    dataset: Dataset,
    tag: Annotated[list[str] | None, typer.Option(help="A tag more, as golden; may be given again.")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="A tag less; may be given again.")] = None,
    remark: Annotated[
        str | None, typer.Option("--note", help="In the place of the note before; '' takes it away.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Who says so; the login name where not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tag a dataset and note what is to be known of it. Its rows and its version stay what they are."""
    project, number = parse(dataset)
    if not tag and not untag and remark is None:
        raise Usage("nothing_to_say", "give --tag, --untag or --note")
    body = {"add": tag or [], "remove": untag or [], "note": remark, "by": by or login_name()}
    found = api.post("prep", f"/v1/datasets/{quote(project, safe='')}/{number}/annotate", body)
    said = f"{dataset}: {', '.join(found['tags']) or 'no tags'}" + (
        f"; {brief(found['note'])}" if found["note"] else ""
    )
    show(found, as_json, lambda: said)


def content(record: Any) -> str | None:
    """A record on one line: its texts in the order in which they are read."""
    return brief(" → ".join(texts(record)), 200)


def texts(value: Any) -> list[str]:
    """The texts of a record's fields, of turns their content."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for turn in value for text in texts(turn.get("content"))]
    if isinstance(value, dict):
        names = ("messages", "text", "prompt", "completion", "chosen", "rejected")
        return [text for name in names for text in texts(value.get(name))]
    return []
