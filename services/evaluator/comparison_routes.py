"""Two versions side by side over HTTP: as JSON, and as a page. Decides nothing."""

import asyncio
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from contracts.evaluation import RIGHT
from services.chassis.context import Context
from services.chassis.http.application import ApiError, errors
from services.chassis.http.artifacts import telling
from services.chassis.page import HEADERS
from services.evaluator.domain.comparison import common, compare, verdict
from services.evaluator.domain.pairing import Place, Subject, places
from services.evaluator.page import page
from services.evaluator.store import Store
from services.evaluator.tables import read_results

LOOKED_AT = 500
"""So many of a project's newest evaluations are looked through."""
AT_ONCE = 2
"""Comparisons that are computed at one time; others wait for their turn."""
Version = Annotated[int, Query(ge=0, le=2**31 - 1, description="A version; 0 is the base")]
Run = Annotated[str | None, Query(max_length=200, description="The version's `run_id`, as the registry tells it")]
PAGE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {}}, "description": "A page"}}
READING = errors(400, 404, 409, 503)
Json = dict[str, Any]


def add_comparisons(routes: APIRouter, ctx: Context[Store]) -> None:
    """Adds `GET /v1/comparisons/{project}` and `.../page`."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def compared(project: str, a: Subject, b: Subject) -> Json:
        if a == b:
            raise ApiError(400, "same_version", f"{name(project, a)} is compared with itself; name two versions")
        found = await ctx.read(lambda store: places(store.evaluations(project, LOOKED_AT), a, b))
        right = await ctx.read(lambda store: _right(store, project))
        async with turn:
            return await asyncio.to_thread(_compared, ctx, project, (a, b), found, right)

    @routes.get("/v1/comparisons/{project}", responses=READING)
    async def comparison(project: str, a: Version, b: Version, a_run: Run = None, b_run: Run = None) -> Json:
        """B against A on the held-out rows that both were measured on."""
        return await compared(project, Subject(a, a_run), Subject(b, b_run))

    @routes.get("/v1/comparisons/{project}/page", responses=PAGE | READING)
    async def comparison_page(
        project: str, a: Version, b: Version, a_run: Run = None, b_run: Run = None
    ) -> HTMLResponse:
        """The same for people."""
        return HTMLResponse(page(await compared(project, Subject(a, a_run), Subject(b, b_run))), headers=HEADERS)


def name(project: str, subject: Subject) -> str:
    """A version as people name it."""
    return f"{project}@{subject.version}" if subject.version else f"{project}@base"


def _right(store: Store, project: str) -> str:
    known = store.projects.current(project)
    return known[1].evaluate.right if known else RIGHT


def _compared(
    ctx: Context[Store],
    project: str,
    subjects: tuple[Subject, Subject],
    found: tuple[Place | None, Place | None],
    right: str,
) -> Json:
    """The comparison as JSON. Raises ApiError: a version was not measured, no row is common, a file is lost."""
    (a, b), names = found, [name(project, subject) for subject in subjects]
    for place, named in zip(found, names, strict=True):
        if place is None:
            message = (
                f"{named} was measured by none of the newest {LOOKED_AT} evaluations; `noria evaluate {named}` does"
            )
            raise ApiError(404, "not_measured", message)
    if a is None or b is None or a.evaluation.outcome is None or b.evaluation.outcome is None:
        raise AssertionError("places are of evaluations that are done")
    with telling():
        paths = [ctx.artifacts.get(each.evaluation.outcome.results) for each in (a, b) if each.evaluation.outcome]
    result = _figures(paths[0], a.role, paths[1], b.role, right)
    rows = {"a": result["rows"][0], "b": result["rows"][1], "both": result["rows"][2]}
    same = rows["a"] == rows["b"] == rows["both"]
    if not rows["both"]:
        raise ApiError(409, "no_common_rows", f"{_words(names, (a, b), rows)}; {_advice(names)}")
    sides = [
        {"model": named, "version": s.version, "role": p.role, "evaluation_id": p.evaluation.evaluation_id}
        | {"dataset": p.evaluation.dataset.number, "measured_at": p.evaluation.created_at.isoformat()}
        for named, s, p in zip(names, subjects, (a, b), strict=True)
    ]
    told = {k: v for k, v in result.items() if k != "rows"}
    return {
        "project": project,
        "a": sides[0],
        "b": sides[1],
        "rows": {**rows, "same": same, "words": _words(names, (a, b), rows)},
        "verdict": verdict(names[0], names[1], told["metrics"], rows["both"], told["differing"]),
        "advice": None if same else _advice(names),
        **told,
    }


@lru_cache(maxsize=16)
def _figures(a: Path, a_role: str, b: Path, b_role: str, right: str) -> Json:
    """The same files give the same figures: artifacts lie under their digests. Nobody changes what is cached."""
    one, other = read_results(a, a_role), read_results(b, b_role)
    first, second = common(one, other)
    counts = (len(one.rows), len(other.rows), len(first.rows))
    return {"rows": counts, **(compare(first, second, right) if first.rows else {})}


def _words(names: list[str], found: tuple[Place, Place], rows: Json) -> str:
    a, b = (
        f"{rows[side]} rows of dataset #{place.evaluation.dataset.number}"
        for side, place in zip("ab", found, strict=True)
    )
    if rows["a"] == rows["b"] == rows["both"]:
        return f"both were measured on the same {rows['both']} held-out rows of dataset #{found[1].evaluation.dataset.number}"
    told = f"compared on the {rows['both']} that both have" if rows["both"] else "they have none in common"
    return f"not measured on the same rows: {names[0]} on {a}, {names[1]} on {b}; {told}"


def _advice(names: list[str]) -> str:
    return (
        f"to have both on the same rows, measure one while the other is in production: `noria evaluate {names[1]}` measures a "
        "candidate beside the champion of now"
    )
