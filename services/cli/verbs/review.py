"""`noria review`: training examples that a project's policy held, one after the other: learn, change or reject them."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.cli import api
from services.cli.errors import Refused, Usage
from services.cli.login import login_name
from services.cli.output import AsJson, Limit, brief, clock, note, show, table

app = typer.Typer(help="Feedback that waits for somebody to decide whether it is learnt.", no_args_is_help=True)
Example = Annotated[str, typer.Argument(metavar="EXAMPLE", help="An example's id, as `noria review list` shows it.")]
OfProject = Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Of one project; of all where absent.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides; the login name where not given.")]
KEYS = "[a] learn  [e] edit and learn  [r] reject  [s] skip  [q] quit"


@app.command("list")
def list_held(project: OfProject = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List what waits, the oldest first: why, what was asked, and the answer that it calls good."""
    found = api.items("feedback", "/v1/review", limit, project=project)
    columns = {
        "example": lambda r: r["example_id"],
        "project": lambda r: r["project"],
        "reason": lambda r: r["reason"],
        "asked": lambda r: brief(_asked(r)),
        "good": lambda r: brief(r["good"]) if r["good"] else None,
        "bad": lambda r: brief(r["bad"]) if r["bad"] else None,
        "user": lambda r: r["user"],
        "said": lambda r: clock(r["said_at"]),
    }
    show(found, as_json, lambda: table(found["items"], columns, "nothing waits for review"))


@app.command("next")
def next_held(project: OfProject = None, by: By = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """Go through what waits with a key each; without a terminal or with --json: show the first one and end."""
    waiting = api.items("feedback", "/v1/review", limit, project=project)["items"]
    if as_json or not sys.stdin.isatty() or not waiting:
        first = waiting[0] if waiting else None
        show({"item": first}, as_json, lambda: _text(first) if first else "nothing waits for review")
        return
    for example in waiting:
        print(_text(example), flush=True)
        key = _key()
        if key == "q":
            return
        try:
            _act(key, example, by)
        except Refused as error:  # somebody else decided, or it was said anew: the rest still waits
            note(str(error))


@app.command("accept")
def accept(
    example: Example,
    answer: Annotated[str | None, typer.Option(help="Learn this in place of the answer it calls good.")] = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Learn an example, perhaps with another answer."""
    found = _decide(example, "accept", by, {} if answer is None else {"answer": answer})
    show(found, as_json, lambda: f"{example} is learnt with the next dataset")


@app.command("reject")
def reject(
    example: Example,
    why: Annotated[str, typer.Option("--note", help="Why; kept with the example.")] = "",
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Do not learn an example."""
    found = _decide(example, "reject", by, {"note": why})
    show(found, as_json, lambda: f"{example} is not learnt")


@app.command("edit")
def edit(example: Example, by: By = None, as_json: AsJson = False) -> None:
    """Change an example's answer in $EDITOR, and learn it."""
    found = api.get("feedback", f"/v1/review/{quote(example, safe='')}")
    changed = _edit(found, by)
    if changed is None:
        raise Usage("not_changed", f"the answer of {example} was left as it is; `noria review accept` learns it so")
    show(changed, as_json, lambda: f"{example} is learnt with the next dataset")


def _edit(example: dict[str, Any], by: str | None) -> dict[str, Any] | None:
    """The example as it is learnt with the answer that a person wrote; None where they changed nothing."""
    if example["good"] is None:
        note(f"{example['example_id']} says that an answer is bad and has no good one to be edited")
        return None
    answer = _written(example["good"])
    if not answer.strip() or answer == example["good"].rstrip("\n"):
        return None
    return _decide(example["example_id"], "accept", by, {"answer": answer, "signal_id": example["signal_id"]})


def _act(key: str, example: dict[str, Any], by: str | None) -> None:
    seen = {"signal_id": example["signal_id"]}
    if key == "a":
        _decide(example["example_id"], "accept", by, seen)
    elif key == "r":
        why = typer.prompt("why", default="", show_default=False, err=True)
        _decide(example["example_id"], "reject", by, seen | {"note": why})
    elif key == "e" and _edit(example, by) is None:
        note("nothing was changed; it still waits")


def _written(text: str) -> str:
    """What a person makes of a text in the editor that VISUAL or EDITOR names, without line feeds at its end."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "answer.txt")
        file.write_text(text + "\n", encoding="utf-8")
        try:
            ended = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
        except OSError as error:
            raise Usage(
                "no_editor", f"the editor {editor!r} could not be started ({error}); name one with EDITOR"
            ) from error
        if ended:
            raise Usage("editor_failed", f"the editor {editor!r} ended with {ended}; nothing was changed")
        return file.read_text(encoding="utf-8").rstrip("\n")


def _decide(example: str, verb: str, by: str | None, body: dict[str, Any]) -> dict[str, Any]:
    return api.post("feedback", f"/v1/review/{quote(example, safe='')}/{verb}", body | {"by": by or login_name()})


def _key() -> str:
    while True:
        typer.echo(KEYS, err=True)
        key = typer.getchar().lower()
        if key in ("\x03", "\x04"):
            raise typer.Abort
        if key in "aersq":
            return key


def _asked(example: dict[str, Any]) -> str:
    return next((turn["content"] for turn in reversed(example["prompt"]) if turn["role"] == "user"), "")


def _text(example: dict[str, Any]) -> str:
    lines = [f"{example['example_id']}  {example['project']}  {example['source']}  {clock(example['said_at'])}"]
    lines += [f"held: {example['reason']}: {example['detail']}", f"user: {example['user'] or 'nobody named'}", ""]
    lines += [f"{turn['role']}: {turn['content']}" for turn in example["prompt"]]
    if example.get("answered") not in (None, example["good"], example["bad"]):
        lines.append(f"answered: {example['answered']}")
    lines += [f"{name}: {example[name]}" for name in ("good", "bad") if example[name] is not None]
    return "\n".join(lines)
