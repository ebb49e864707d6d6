"""`noria compare`: two versions of a model on the held-out rows that both were measured on."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from services.cli import api, evaluation_words
from services.cli.addresses import settings
from services.cli.errors import Usage
from services.cli.model_name import parse
from services.cli.output import AsJson, brief, metric, printable, show, table

Json = Mapping[str, Any]
LOOKED_AT = 200
"""So many of a project's newest versions are looked through for a candidate."""
SECONDS = 300.0
"""A comparison on 10,000 rows is computed for a minute the first time that it is asked for."""
ANSWERS = 5
"""So many of the answers that differ most are printed; the page has more."""


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="MODEL@VERSION (@0 is the base), or a PROJECT alone.")],
    second: Annotated[str | None, typer.Argument(metavar="B", help="MODEL@VERSION of the same model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare version B with version A: verdict, intervals, parts of the rows, and the answers that differ most.

    A PROJECT alone: its newest candidate with the champion. MODEL@VERSION alone: with the version it was measured beside.
    Decides nothing: `noria explain` tells why the gate promoted or rejected.
    """
    project, a, b = _named(first, second)
    asked = {"a": a, "b": b, "a_run": _run(project, a), "b_run": _run(project, b)}
    given = {name: value for name, value in asked.items() if value is not None}
    path = f"/v1/comparisons/{quote(project, safe='')}"
    with api.client("evaluator", SECONDS) as http:
        found = api.checked("evaluator", http.get(path, params=given))
    page = f"{settings().url('evaluator')}{path}/page?{urlencode(given)}"
    show({**found, "page": page}, as_json, lambda: _shown(found, page))


def _named(first: str, second: str | None) -> tuple[str, int, int]:
    """The model, and the versions A and B."""
    if "@" not in first:
        if second is not None:
            raise Usage(
                "bad_model_name", f"{first!r} is a project; give it alone, or two versions as {first}@1 {first}@2"
            )
        return first, *_champion_and_candidate(first)
    name, version = parse(first)
    if second is None:
        beside = api.get("registry", f"/v1/models/{name}/{version}")["champion"] if version else None
        if beside is None:
            raise Usage("not_measured", f"{first} was measured beside no version; give two, as {name}@1 {name}@2")
        return name, beside["version"], version
    other, later = parse(second)
    if other != name:
        raise Usage("two_models", f"{first} and {second} are of two projects, which have no rows in common")
    if later == version:
        raise Usage("same_version", f"{first} is compared with itself; give two versions")
    return name, version, later


def _champion_and_candidate(project: str) -> tuple[int, int]:
    versions = api.items("registry", "/v1/models", LOOKED_AT, project=project)["items"]
    candidate = next((each["version"] for each in versions if each["stage"] == "candidate"), None)
    if candidate is None:
        raise Usage("no_candidate", f"{project} has no candidate; give two versions, as {project}@0 {project}@1")
    return next((each["version"] for each in versions if each["is_champion"]), 0), candidate


def _run(project: str, version: int) -> str | None:
    return api.get("registry", f"/v1/models/{project}/{version}")["run_id"] if version else None


def _shown(found: Json, page: str) -> Any:
    from rich.console import Group
    from rich.text import Text

    a, b = found["a"]["model"], found["b"]["model"]
    columns = {
        "metric": lambda m: m["metric"],
        a: lambda m: metric(m["a"]),
        b: lambda m: metric(m["b"]),
        "difference": lambda m: metric(m["difference"]),
        "p by Holm": lambda m: f"{m['adjusted']:.2g}",
        b + " is": lambda m: m["finding"],
    }
    head, tail = Text("\n".join(_head(found))), Text("\n".join(_tail(found, page)))
    return Group(head, table(found["metrics"], columns, "no metric was measured on both"), tail)


def _head(found: Json) -> Iterator[str]:
    yield found["verdict"]
    yield found["rows"]["words"]
    if found["advice"]:
        yield found["advice"]


def _tail(found: Json, page: str) -> Iterator[str]:
    yield from evaluation_words.slices(found["slices"])
    yield from evaluation_words.regressions(found["regressions"], found["a"]["model"])
    shown = found["differences"][:ANSWERS]
    if shown:
        yield f"the answers that differ most by {found['by']}, of {found['differing']} that are not the same:"
    for row in shown:
        yield f"  {row['record_id']}: {_text(row['prompt'])}"
        yield f"    should be: {_text(row['reference'])}"
        for side in "ab":
            yield f"    {found[side]['model']} ({row[side]['value']:.4g}): {_text(row[side]['answer'])}"
    yield f"as a page, with {len(found['differences'])} answers: {page}"


def _text(text: str | None) -> str:
    return printable(brief(text) or "-")
