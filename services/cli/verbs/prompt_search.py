"""`noria prompt optimise`: searches a better system prompt within a budget of calls, and makes it a candidate where told so."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import api
from services.cli.dataset_name import parse
from services.cli.errors import Usage
from services.cli.output import AsJson, note, show
from services.cli.progress import progress

if TYPE_CHECKING:
    from services.cli.prompts.search import Found
    from services.cli.prompts.task import Task

MOST_VALIDATION = 200
MOST_TRAIN = 400
INTERRUPTED = 130


def optimise(
    project: Annotated[str, typer.Argument(help="Whose prompt.")],
    budget: Annotated[int, typer.Option("--budget", min=1, help="Calls of models, all together; never one more.")],
    model: Annotated[
        str | None, typer.Option(help="Who answers: PROJECT@VERSION; what serves now where not given.")
    ] = None,
    reflect: Annotated[
        str | None,
        typer.Option(
            help="Who writes instructions: a model at the gateway, or the URL up to /v1 of an OpenAI-like endpoint."
        ),
    ] = None,
    reflect_model: Annotated[str | None, typer.Option(help="The model at that URL.")] = None,
    reflect_key: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable that holds the key for that URL.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="PROJECT@NUMBER; the newest where not given.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 7,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=256, help="Questions at one time.")] = 8,
    out: Annotated[Path | None, typer.Option("--out", help="Write the section `prompt:` here.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Define the project with a better prompt: a candidate.")
    ] = False,
    restart: Annotated[bool, typer.Option(help="Begin anew where an earlier search was stopped.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search a better system prompt, from the training side's rows, measured on the validation side's.

    Ctrl-C ends it with the best so far; the same command goes on from there, and with a larger budget further.
    """
    from services.cli.prompts.known import spec_of

    _needs_gepa()
    from services.cli.prompts import outcome, search
    from services.cli.prompts.askers import askers, ledger_file
    from services.cli.prompts.ledger import Ledger, keep_newest
    from services.cli.prompts.task import metric_of

    spec = spec_of(project)
    number = _number(project, dataset)
    asked = askers(spec, model, reflect, reflect_model, reflect_key)
    train, validation = _tasks(project, number, budget, seed)
    about: dict[str, Any] = {"dataset": number, "metric": metric_of(spec), "rows": len(validation), "seed": seed}
    file = ledger_file(spec, asked, about)
    if restart:
        file.unlink(missing_ok=True)
    ledger = Ledger(file, budget, at_once)
    program = search.Program(spec.prompt, about["metric"], asked, ledger)
    with progress(f"searching for {project}") as advance:
        found = search.search(
            program, train, validation, seed, lambda so_far: advance(ledger.used / budget, _so_far(so_far, ledger.used))
        )
    keep_newest(file.parent)
    if found.before is None or found.best is None:
        raise _nothing(found, budget)
    about |= {"calls": ledger.used, "budget": budget}
    document = outcome.document(spec, asked, found, found.before, found.best, about)
    if document["better"] and apply:
        changed = spec.model_dump(mode="json") | {"prompt": document["prompt"]}
        document["applied"] = api.post("registry", "/v1/projects", changed)
    if out and document["better"]:
        _write(out, document["prompt"])
    show(document, as_json, lambda: outcome.told(document, out))
    _end(found)


def _nothing(found: "Found", budget: int) -> Exception:
    """Why not even the present prompt was measured."""
    if found.ended == "budget":
        spent = f"earlier runs of this search leave too little of {budget} calls"
        return Usage("budget_spent", f"{spent}; give a larger --budget, or --restart")
    note("noria: stopped before the present prompt was measured; the same command goes on from there")
    return typer.Exit(INTERRUPTED)


def _end(found: "Found") -> None:
    """The exit status: 130 stopped by a person, 1 by a failure."""
    if found.ended == "interrupted":
        note("noria: stopped; the same command goes on from there")
        raise typer.Exit(INTERRUPTED)
    if found.ended not in ("budget", "nothing new to ask"):
        note(f"noria: the search ended early: {found.ended}; the same command goes on from there")
        raise typer.Exit(1)


def _needs_gepa() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("gepa", "numpy", "rouge_score", "sacrebleu") if find_spec(name) is None]
    if missing:
        said = f"the search needs {', '.join(missing)}; install what it needs with: pip install 'noria[optimise]'"
        raise Usage("not_installed", said)


def _number(project: str, dataset: str | None) -> int:
    from services.cli.prompts.sampling import newest

    name, number = parse(dataset) if dataset else (project, newest(project))
    if name != project:
        raise Usage("other_project", f"{dataset} is of another project; give a dataset of {project}")
    return number


def _tasks(project: str, number: int, budget: int, seed: int) -> "tuple[list[Task], list[Task]]":
    """Training and validation rows, of the latter as many as a sixth of the budget measures an instruction on. Raises Usage."""
    from services.cli.prompts.sampling import sample
    from services.cli.prompts.search import MINIBATCH
    from services.cli.prompts.task import tasks

    wanted = min(MOST_VALIDATION, max(4, budget // 6))
    train, no_train = tasks(sample(project, number, "train", MOST_TRAIN, seed))
    validation, no_validation = tasks(sample(project, number, "validation", wanted, seed))
    for side, rows, left_out in (("training", train, no_train), ("validation", validation, no_validation)):
        if not rows:
            said = ", ".join(f"{n} {reason}" for reason, n in left_out.items()) or "it is empty"
            raise Usage("no_rows", f"the {side} side of {project}@{number} has no row with an answer in words ({said})")
    least = 2 * len(validation) + 2 * MINIBATCH + 1
    if budget < least:
        raise Usage(
            "budget_too_small", f"{budget} calls are too few for one new instruction; give --budget {least} or more"
        )
    return train, validation


def _so_far(found: "Found", used: int) -> str:
    best = f"best {100 * found.best.mean:.1f}" if found.best else "measuring the present prompt"
    return f"{best}, {found.tried} written, {used} calls"


def _write(out: Path, prompt: dict[str, Any]) -> None:
    from services.cli.prompts.yaml_text import section

    try:
        out.write_text(section(prompt), "utf-8")
    except OSError as error:
        raise Usage("cannot_write", f"{out}: {error.strerror}") from error
